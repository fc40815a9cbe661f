//! Payloads in a file of their own, written once for both sides and never moved; the store holds
//! place and length. Deleting overwrites with zeros in place.

use super::{Fault, Item, Store};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) struct Outside<S> {
    inner: S,
    file: File,
    end: u64,
    places: HashMap<u64, (u64, usize)>,
}

pub(super) fn open<S>(folder: &Path, inner: S) -> Result<Outside<S>, Fault> {
    let mut options = File::options();
    options.create(true).truncate(true).read(true).write(true);
    let file = options.open(folder.join("payloads"))?;
    Ok(Outside { inner, file, end: 0, places: HashMap::new() })
}

impl<S: Store> Store for Outside<S> {
    fn insert(&mut self, items: &[Item<'_>]) -> Result<(), Fault> {
        let (start, mut written) = (self.end, Vec::new());
        for item in items {
            self.places.entry(item.client_id).or_insert_with(|| {
                written.extend_from_slice(item.payload);
                let at = start + (written.len() - item.payload.len()) as u64;
                (at, item.payload.len())
            });
        }
        self.file.write_all_at(&written, start)?;
        self.end += written.len() as u64;
        let places: Vec<Vec<u8>> =
            items.iter().map(|item| place(self.places[&item.client_id])).collect();
        let items: Vec<Item<'_>> = items
            .iter()
            .zip(&places)
            .map(|(item, place)| Item { payload: place, ..*item })
            .collect();
        self.inner.insert(&items)
    }

    fn page(&mut self, conversation: u32, each: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        let mut failed = None;
        let file = &self.file;
        self.inner.page(conversation, &mut |place| {
            let at = place[..8].try_into().map(u64::from_le_bytes).unwrap_or_default();
            let mut payload = vec![0; usize::from(place[8])];
            failed = file.read_exact_at(&mut payload, at).err();
            each(&payload);
        })?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn delete(&mut self, conversation: u32, device: u32, client_id: u64) -> Result<(), Fault> {
        let (at, length) = self.places[&client_id];
        self.file.write_all_at(&vec![0; length], at)?;
        self.inner.delete(conversation, device, client_id)
    }

    fn commit_deletes(&mut self) -> Result<(), Fault> {
        self.inner.commit_deletes()
    }

    fn scrub(&mut self) -> Result<(), Fault> {
        Ok(self.file.sync_data()?)
    }
}

fn place((at, length): (u64, usize)) -> Vec<u8> {
    [&at.to_le_bytes()[..], &[length as u8]].concat()
}
