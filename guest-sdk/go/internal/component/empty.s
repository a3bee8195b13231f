// With this file, sbrk may be declared without a body.
