/**
 * Owns the seam between the admin socket and what it can have done: each command takes the JSON that
 * was posted and answers what became of it. Types only.
 */

/** What a command answers. */
export type CommandAnswer =
  | { readonly kind: 'done'; readonly value: unknown }
  /** Expected: what was asked for makes no sense here. */
  | {
      readonly kind: 'refused'
      readonly code: string
      readonly problem: string
      readonly hint: string
    }

/** Carries one command out. May throw on bugs only. */
export type AdminCommand = (input: unknown) => CommandAnswer | Promise<CommandAnswer>

/** Commands by name, as in `POST /v1/<name>`. */
export type AdminCommands = Readonly<Record<string, AdminCommand>>
