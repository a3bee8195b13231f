/** What stopped a build: where, what, and what to do. */
export class BuildError extends Error {}
