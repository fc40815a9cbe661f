//! What people do with their accounts, one function per call. Ids travel as text in JSON.

use serde_json::{Value, json};

use super::{Api, ApiError};

/// A device that is logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Whose.
    pub user: u64,
    /// Which of theirs.
    pub device: u32,
    /// For the chat socket and for calls.
    pub access: String,
    /// Seconds until `access` ends.
    pub access_s: u64,
    /// Gets the next `access`, once.
    pub refresh: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, device, .. } = self;
        f.debug_struct("Login").field("user", user).field("device", device).finish_non_exhaustive()
    }
}

/// A user, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The number.
    pub id: u64,
    /// The handle; empty if there is none.
    pub name: String,
}

/// A group, as a member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The number.
    pub id: u64,
    /// What it is called.
    pub name: String,
    /// How many are in it.
    pub members: u64,
}

/// An invitation to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its number.
    pub id: u64,
    /// The group.
    pub group: u64,
    /// Who invites.
    pub by: u64,
}

/// What became of somebody who should be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Is one.
    Member,
    /// Was invited, and decides.
    Invited,
}

impl Api {
    /// Makes an account and logs its first device in.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn register(
        &self,
        name: &str,
        password: &str,
        invite: Option<&str>,
        label: &str,
    ) -> Result<Login, ApiError> {
        let mut body = json!({"name": name, "password": password, "label": label});
        if let Some(invite) = invite {
            body["invite"] = invite.into();
        }
        login(&self.post("/v1/accounts", &body)?)
    }

    /// Logs a device in; a new one, unless `device` is one of the account's.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn log_in(
        &self,
        handle: &str,
        password: &str,
        device: Option<u32>,
        label: &str,
    ) -> Result<Login, ApiError> {
        let mut body = json!({"handle": handle, "password": password, "label": label});
        if let Some(device) = device {
            body["device"] = device.into();
        }
        login(&self.post("/v1/sessions", &body)?)
    }

    /// Gets fresh tokens. `refresh` is spent.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn refresh(&self, refresh: &str) -> Result<Login, ApiError> {
        login(&self.post("/v1/sessions/refresh", &json!({"refresh_token": refresh}))?)
    }

    /// Logs this device out.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn log_out(&self) -> Result<(), ApiError> {
        self.call("DELETE", "/v1/sessions/current", None).map(|_| ())
    }

    /// Finds somebody by name or phone number.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn find(&self, handle: &str) -> Result<Who, ApiError> {
        who(&self.get(&format!("/v1/users?handle={}", escaped(handle)))?)
    }

    /// Looks somebody up.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn user(&self, id: u64) -> Result<Who, ApiError> {
        who(&self.get(&format!("/v1/users/{id}"))?)
    }

    /// Puts somebody into the contact book, or takes them out.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn set_contact(&self, id: u64, on: bool) -> Result<(), ApiError> {
        self.set(&format!("/v1/contacts/{id}"), on)
    }

    /// Blocks somebody, or no longer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn set_blocked(&self, id: u64, on: bool) -> Result<(), ApiError> {
        self.set(&format!("/v1/blocks/{id}"), on)
    }

    fn set(&self, path: &str, on: bool) -> Result<(), ApiError> {
        let (method, body) = if on { ("PUT", Some(json!({}))) } else { ("DELETE", None) };
        self.call(method, path, body.as_ref()).map(|_| ())
    }

    /// Begins a group.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn create_group(&self, name: &str) -> Result<Group, ApiError> {
        group(&self.post("/v1/groups", &json!({"name": name}))?)
    }

    /// The groups this user is in, all pages of them up to `most`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn groups(&self, most: usize) -> Result<Vec<Group>, ApiError> {
        self.pages("/v1/groups", most, group)
    }

    /// Looks a group up that this user is in.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn group(&self, id: u64) -> Result<Group, ApiError> {
        group(&self.get(&format!("/v1/groups/{id}"))?)
    }

    /// Adds a member to a group, or invites.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn add_member(&self, group: u64, user: u64) -> Result<Added, ApiError> {
        let answer =
            self.post(&format!("/v1/groups/{group}/members"), &json!({"id": user.to_string()}))?;
        Ok(if answer["state"] == "invited" { Added::Invited } else { Added::Member })
    }

    /// Takes a member out of a group.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn remove_member(&self, group: u64, user: u64) -> Result<(), ApiError> {
        self.call("DELETE", &format!("/v1/groups/{group}/members/{user}"), None).map(|_| ())
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn leave_group(&self, group: u64) -> Result<(), ApiError> {
        self.post(&format!("/v1/groups/{group}/leave"), &json!({})).map(|_| ())
    }

    /// Makes a member the owner of a group that is this user's.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn hand_over(&self, group: u64, user: u64) -> Result<(), ApiError> {
        let body = json!({"owner": user.to_string()});
        self.call("PATCH", &format!("/v1/groups/{group}"), Some(&body)).map(|_| ())
    }

    /// Invitations to groups, all pages of them up to `most`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn invitations(&self, most: usize) -> Result<Vec<Invitation>, ApiError> {
        let read = |item: &Value| {
            Ok(Invitation { id: id(item, "id")?, group: id(item, "group")?, by: id(item, "by")? })
        };
        self.pages("/v1/invitations", most, read)
    }

    /// Follows an invitation; the group.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn accept(&self, invitation: u64) -> Result<Group, ApiError> {
        group(&self.post(&format!("/v1/invitations/{invitation}/accept"), &json!({}))?)
    }

    /// Declines an invitation.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn decline(&self, invitation: u64) -> Result<(), ApiError> {
        self.call("DELETE", &format!("/v1/invitations/{invitation}"), None).map(|_| ())
    }

    /// All items of a list, page by page, up to `most` and the rest of their page.
    fn pages<T>(
        &self,
        list: &str,
        most: usize,
        read: impl Fn(&Value) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        let mut path = format!("{list}?limit=100");
        loop {
            let page = self.get(&path)?;
            for item in page["items"].as_array().ok_or(ApiError::Lacks("items"))? {
                all.push(read(item)?);
            }
            match page["next"].as_str() {
                Some(next) if all.len() < most => {
                    path = format!("{list}?limit=100&after={}", escaped(next));
                }
                _ => return Ok(all),
            }
        }
    }
}

fn login(answer: &Value) -> Result<Login, ApiError> {
    let text =
        |name: &'static str| answer[name].as_str().map(str::to_owned).ok_or(ApiError::Lacks(name));
    let device = answer["device"].as_u64().and_then(|device| u32::try_from(device).ok());
    Ok(Login {
        user: id(answer, "user")?,
        device: device.ok_or(ApiError::Lacks("device"))?,
        access: text("access_token")?,
        access_s: answer["expires_in"].as_u64().ok_or(ApiError::Lacks("expires_in"))?,
        refresh: text("refresh_token")?,
    })
}

fn who(answer: &Value) -> Result<Who, ApiError> {
    let name = answer["name"].as_str().unwrap_or_default().to_owned();
    Ok(Who { id: id(answer, "id")?, name })
}

fn group(answer: &Value) -> Result<Group, ApiError> {
    let name = answer["name"].as_str().ok_or(ApiError::Lacks("name"))?.to_owned();
    let members = answer["members"].as_u64().ok_or(ApiError::Lacks("members"))?;
    Ok(Group { id: id(answer, "id")?, name, members })
}

fn id(answer: &Value, name: &'static str) -> Result<u64, ApiError> {
    answer[name].as_str().and_then(|text| text.parse().ok()).ok_or(ApiError::Lacks(name))
}

/// Text for a query: whatever is not certainly harmless is written as its bytes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn ids_are_text_and_what_lacks_is_named() {
        let answer = json!({"user": "9007199254740991", "device": 1, "access_token": "a",
                            "expires_in": 3600, "refresh_token": "r"});
        let got = login(&answer).unwrap();
        assert_eq!((got.user, got.device), ((1 << 53) - 1, 1));
        assert!(!format!("{got:?}").contains('"'), "no token is shown");
        assert!(matches!(login(&json!({"user": 1})), Err(ApiError::Lacks(_))));
    }

    #[test]
    fn a_handle_cannot_add_to_the_query() {
        assert_eq!(escaped("+49 1&x=é"), "%2B49%201%26x%3D%C3%A9");
    }
}
