/**
 * Owns the question which number a local user has. The file of users answers; a user that stands in
 * a directory service is asked for through `getent`, at most once a minute each.
 */

import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import type { Clock } from '#shared/lifecycle/clock.ts'

/** Collaborators. */
export interface LocalUsersParts {
  readonly clock: Pick<Clock, 'elapsed'>
}

/** Settings. */
export interface LocalUsersSettings {
  /** @default '/etc/passwd' */
  readonly file?: string
}

const askAgainMs = 60_000
const patienceMs = 2000
/** More users than this are not remembered at once. */
const mostUsers = 1000

interface Known {
  readonly uid: number | null
  readonly askedAt: number
}

/** See the header. */
export class LocalUsers {
  readonly #parts: LocalUsersParts
  readonly #file: string
  readonly #asked = new Map<string, Known>()

  constructor(parts: LocalUsersParts, settings: LocalUsersSettings = {}) {
    this.#parts = parts
    this.#file = settings.file ?? '/etc/passwd'
  }

  /** The number of a user; null where there is none of that name. Never rejects. */
  async uidOf(name: string): Promise<number | null> {
    // Such names can be no users, and would be options to a program.
    if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?$/.test(name)) return null
    const text = await readFile(this.#file, 'utf8').catch(() => '')
    return uidIn(text, name) ?? (await this.#ask(name))
  }

  async #ask(name: string): Promise<number | null> {
    const now = this.#parts.clock.elapsed()
    const known = this.#asked.get(name)
    if (known !== undefined && now - known.askedAt < askAgainMs) return known.uid
    if (this.#asked.size >= mostUsers) this.#asked.clear()
    const uid = await new Promise<number | null>((resolve) => {
      execFile('getent', ['passwd', name], { timeout: patienceMs }, (error, out) =>
        resolve(error === null ? uidIn(out, name) : null),
      )
    })
    this.#asked.set(name, { uid, askedAt: now })
    return uid
  }
}

/** Reads passwd(5). */
function uidIn(text: string, name: string): number | null {
  for (const line of text.split('\n')) {
    const [user, , uid = ''] = line.split(':')
    if (user === name && /^\d+$/.test(uid)) return Number(uid)
  }
  return null
}
