//! Groups on a server's control socket, as an operator has them.

use super::{Server, WAIT};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

impl Server {
    /// Orders something about a group: what came of it, or why it was not obeyed.
    pub(crate) fn order(&self, ask: &Value) -> Result<Value, String> {
        let mut stream = UnixStream::connect(self.home.data().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        writeln!(stream, "{}", json!({ "group": ask })).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(answer.trim()).unwrap();
        let told = answer.get("answer").unwrap_or_else(|| panic!("{answer}")).clone();
        match told.get("fault") {
            Some(fault) => Err(fault.as_str().unwrap().to_owned()),
            None => Ok(told),
        }
    }

    /// Makes a group of these users, the first its owner.
    pub(crate) fn make_group(&self, group: u64, members: &[u64]) {
        let (owner, others) = members.split_first().unwrap();
        let create = json!({ "create": { "group": group, "owner": owner, "name": "friends" } });
        self.order(&create).unwrap();
        for user in others {
            self.edit_group(group, *owner, &json!({ "add": user })).unwrap();
        }
    }

    /// Changes a group: the position of the record that says so.
    pub(crate) fn edit_group(&self, group: u64, by: u64, edit: &Value) -> Result<u64, String> {
        let done = self.order(&json!({ "edit": { "group": group, "by": by, "edit": edit } }))?;
        Ok(done["changed"].as_u64().unwrap())
    }

    /// Marks of the members who were in at `position`: user, has, read.
    pub(crate) fn group_marks(&self, group: u64, position: u64) -> Vec<(u64, u64, u64)> {
        let ask = json!({ "marks": { "group": group, "position": position } });
        let told = self.order(&ask).unwrap();
        let rows = told["members"]["members"].as_array().unwrap().clone();
        let number = |row: &Value, at: usize| row[at].as_u64().unwrap();
        rows.iter().map(|row| (number(row, 0), number(row, 3), number(row, 4))).collect()
    }
}
