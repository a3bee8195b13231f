//! An ordinary command: what it exports is not what the gateway asks for.

fn main() {}
