//! Digests and random numbers.

use std::cell::Cell;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use rquickjs::{Ctx, Exception, TypedArray, Value};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::convert::bytes_of;

/// Bytes that are made at a time; the gateway gives no more at once.
const RANDOM_BYTES_MAX: usize = 64 << 10;

#[expect(clippy::needless_pass_by_value, reason = "the engine hands its arguments over")]
pub(super) fn digest<'js>(
    ctx: Ctx<'js>,
    algorithm: String,
    input: Value<'js>,
) -> rquickjs::Result<TypedArray<'js, u8>> {
    let input = bytes(&ctx, &input)?;
    let digest = match algorithm.as_str() {
        "md5" => Md5::digest(input).to_vec(),
        "sha1" => Sha1::digest(input).to_vec(),
        "sha256" => Sha256::digest(input).to_vec(),
        "sha384" => Sha384::digest(input).to_vec(),
        "sha512" => Sha512::digest(input).to_vec(),
        other => return Err(unknown(&ctx, other)),
    };
    TypedArray::new_copy(ctx, digest)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands its arguments over")]
pub(super) fn hmac<'js>(
    ctx: Ctx<'js>,
    algorithm: String,
    key: Value<'js>,
    input: Value<'js>,
) -> rquickjs::Result<TypedArray<'js, u8>> {
    macro_rules! mac {
        ($digest:ty) => {{
            let Ok(mut mac) = Hmac::<$digest>::new_from_slice(&bytes(&ctx, &key)?) else {
                return Err(Exception::throw_type(&ctx, "the key has a wrong length"));
            };
            mac.update(&bytes(&ctx, &input)?);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    let mac = match algorithm.as_str() {
        "md5" => mac!(Md5),
        "sha1" => mac!(Sha1),
        "sha256" => mac!(Sha256),
        "sha384" => mac!(Sha384),
        "sha512" => mac!(Sha512),
        other => return Err(unknown(&ctx, other)),
    };
    TypedArray::new_copy(ctx, mac)
}

pub(super) fn random_bytes(ctx: Ctx<'_>, length: usize) -> rquickjs::Result<TypedArray<'_, u8>> {
    if length > RANDOM_BYTES_MAX {
        let text = format!("more than {RANDOM_BYTES_MAX} random bytes at a time");
        return Err(Exception::throw_range(&ctx, &text));
    }
    let mut bytes = vec![0; length];
    match getrandom::fill(&mut bytes) {
        Ok(()) => TypedArray::new(ctx, bytes),
        Err(_) => Err(Exception::throw_message(&ctx, "there are no random numbers here")),
    }
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// `Math.random`. The engine's own begins with the time, which several instances have in common.
pub(super) fn random() -> f64 {
    let mut seed = SEED.get();
    if seed == 0 {
        let mut bytes = [0; 8];
        if getrandom::fill(&mut bytes).is_ok() {
            seed = u64::from_le_bytes(bytes);
        }
    }
    // SplitMix64.
    seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEED.set(seed);
    let mut bits = seed;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // The 53 bits of a double's fraction.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let fraction = (bits >> 11) as f64;
    fraction / (1_u64 << 53) as f64
}

fn bytes(ctx: &Ctx<'_>, value: &Value<'_>) -> rquickjs::Result<Vec<u8>> {
    bytes_of(value).ok_or_else(|| Exception::throw_type(ctx, "a Uint8Array is needed here"))
}

fn unknown(ctx: &Ctx<'_>, algorithm: &str) -> rquickjs::Error {
    let text = format!(
        "Digest method not supported: {algorithm}; there are md5, sha1, sha256, sha384 and sha512"
    );
    Exception::throw_message(ctx, &text)
}
