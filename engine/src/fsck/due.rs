//! The due-time index: its two tables say the same.

use super::Fsck;
use super::finding::{Fault, Finding, Severity};
use crate::device::Device;
use crate::error::Result;
use crate::format::due::{
    decode_due_time, due_key, due_prefix, encode_due_time, item_key, parse_due_key, parse_item_key,
};
use crate::ids::{ShardId, UnixMillis};
use crate::index::lsm::Lsm;

use super::readonly::ReadOnly;

impl<D: Device> Fsck<'_, D> {
    pub(super) async fn check_due(&mut self, shard: ShardId, directory: &Lsm<ReadOnly<D>>) -> Result<()> {
        let mut cursor = directory.cursor();
        cursor.seek(&due_prefix(UnixMillis(0)));
        while let Some((place, value)) = cursor.next().await? {
            let (other, expected, key) = if let Some((due, (bucket, key, item))) = parse_due_key(place) {
                (item_key(bucket, &key, item), encode_due_time(due), key)
            } else if let Some((bucket, key, item)) = parse_item_key(place)
                && let Ok(due) = decode_due_time(value)
            {
                (due_key(due, bucket, &key, item), Vec::new(), key)
            } else {
                self.due_finding(shard, "has a key of no table, or a time that does not decode");
                continue;
            };
            if directory.get(&other).await? != Some(expected) {
                let key = key.escape_ascii();
                self.due_finding(
                    shard,
                    &format!("says of \"{key}\" in one table what it does not in the other"),
                );
            }
        }
        Ok(())
    }

    fn due_finding(&mut self, shard: ShardId, detail: &str) {
        self.report.add(Finding::new(Fault::DueTime, Severity::Lost, detail).shard(shard));
    }
}
