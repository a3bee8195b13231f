//! The end of a connection: last bytes, then a close that does not destroy them.

use std::time::Duration;

use tokio::time::timeout;

use super::{Scratch, Transport};

/// Time for all of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes that a peer may still send before it is cut off.
const DISCARDED_BYTES_MAX: usize = 1 << 20;

/// Writes `last`, ends our direction, and reads on until the peer has ended its own. Closing a
/// socket with unread bytes makes the kernel send a reset, and the peer lose what was written.
pub(super) async fn say(mut stream: Transport, last: &[u8]) {
    let _in_time = timeout(FAREWELL, async {
        if stream.write_all(last).await.is_err() || stream.end().await.is_err() {
            return;
        }
        let mut discarded = 0;
        while discarded < DISCARDED_BYTES_MAX {
            let mut scratch = Scratch::take();
            match stream.read(scratch.as_mut()).await {
                Ok(0) | Err(_) => return,
                Ok(read) => discarded += read,
            }
        }
    })
    .await;
}
