/**
 * Owns the safe reading of one file of the manifest directory. Whatever stands there, a link, a pipe,
 * a device, a file of gigabytes, costs one bounded read at most and is judged by its open descriptor,
 * so that it cannot be swapped in between.
 */

import { createHash } from 'node:crypto'
import { lstatSync, type BigIntStats } from 'node:fs'
import { constants, lstat, open, type FileHandle } from 'node:fs/promises'
import { basename } from 'node:path'
import { maxDocumentBytes } from '#shared/schema/json-document.ts'
import { readManifest, type ManifestReading } from '#shared/schema/manifest.ts'
import type { Problem } from '#shared/schema/problem.ts'

/** What a file that is bad is read as. */
export interface BadReading {
  readonly ok: false
  readonly problems: readonly Problem[]
}

/** What a manifest that is good is read as. */
type GoodManifest = Extract<ManifestReading, { readonly ok: true }>

/** One version of a file, read and judged by itself. */
export interface FileVersion<Good = GoodManifest> {
  readonly path: string
  /** Tells versions apart without reading them; empty where it must not be relied upon. */
  readonly stamp: string
  /** SHA-256 of the content, hexadecimal; names the fault where there is no content. */
  readonly hash: string
  readonly mtimeMs: number
  /** The content of a good version; empty for a bad one, which may be large and many. */
  readonly text: string
  readonly reading: Good | BadReading
}

/** What looking at a file answers. */
export type FileLook<Good = GoodManifest> =
  | { readonly kind: 'read'; readonly version: FileVersion<Good> }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'gone' }

/** Whose files count, and for whom they speak. */
export interface FileRules {
  /** The local user whose manifest it is; null for the administrator's. */
  readonly user: string | null
  readonly owners: ReadonlySet<number>
}

/** File systems stamp times in ticks: within this long of a change, a stamp proves nothing. */
const tickMs = 250

/** Where what belongs to a manifest stands below a directory of its own: `[<user>/]<file>`. */
export function standsAt(path: string, user: string | null = null): string {
  return user === null ? basename(path) : `${user}/${basename(path)}`
}

/** Looks at a manifest; one whose stamp is `knownStamp` is not read again. `nowMs` is the wall clock. */
export function lookAt(
  path: string,
  knownStamp: string,
  nowMs: number,
  rules: FileRules,
): Promise<FileLook> {
  const { user } = rules
  return lookAtFile(path, knownStamp, nowMs, {
    ...rules,
    read: (bytes) => readManifest(path, bytes, user === null ? {} : { owner: user }),
  })
}

/**
 * Whether a file is what it was when it got its stamp; false where that cannot be told. Answers at once,
 * because it is asked of every file every few seconds: a round through the thread pool costs six times
 * as much.
 */
export function isUnchanged(path: string, knownStamp: string, nowMs: number): boolean {
  if (knownStamp === '') return false
  try {
    return stampOf(lstatSync(path, { bigint: true }), nowMs) === knownStamp
  } catch {
    return false
  }
}

/** How files of one kind are read. */
export interface FileKind<Good> extends FileRules {
  readonly read: (bytes: Uint8Array) => Good | BadReading
}

/** Looks at a file of any kind, as {@link lookAt} does at manifests. */
export async function lookAtFile<Good extends { readonly ok: true }>(
  path: string,
  knownStamp: string,
  nowMs: number,
  kind: FileKind<Good>,
): Promise<FileLook<Good>> {
  let handle: FileHandle | null = null
  try {
    if (knownStamp !== '') {
      const seen = await lstat(path, { bigint: true })
      if (stampOf(seen, nowMs) === knownStamp) return { kind: 'unchanged' }
    }
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const stats = await handle.stat({ bigint: true })
    return { kind: 'read', version: await readVersion(path, handle, stats, nowMs, kind) }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    if (code === 'ENOENT') return { kind: 'gone' }
    return { kind: 'read', version: refused(path, 0, unreadable(path, code)) }
  } finally {
    await handle?.close()
  }
}

async function readVersion<Good extends { readonly ok: true }>(
  path: string,
  handle: FileHandle,
  stats: BigIntStats,
  nowMs: number,
  kind: FileKind<Good>,
): Promise<FileVersion<Good>> {
  const mtimeMs = Number(stats.mtimeMs)
  if (!stats.isFile()) {
    return refused(path, mtimeMs, { rule: 'not-a-file', message: 'this is not a regular file' })
  }
  if (stats.nlink > 1n) {
    return refused(path, mtimeMs, {
      rule: 'linked-file',
      message: `the file has ${stats.nlink} names (hard links)`,
      hint: 'copy it instead of linking it',
    })
  }
  const foreign = foreignFault(stats, kind)
  if (foreign !== null) return refused(path, mtimeMs, foreign)
  // One byte more than allowed, so that the reader itself sees and says that it is too large.
  const buffer = Buffer.alloc(Math.min(Number(stats.size), maxDocumentBytes) + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  const bytes = buffer.subarray(0, length)
  const reading = kind.read(bytes)
  return {
    path,
    stamp: stampOf(stats, nowMs),
    hash: createHash('sha256').update(bytes).digest('hex'),
    mtimeMs,
    text: reading.ok ? bytes.toString('utf8') : '',
    reading,
  }
}

function stampOf(stats: BigIntStats, nowMs: number): string {
  const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = stats
  const isFresh = Math.abs(nowMs - Number(ctimeMs)) < tickMs
  return isFresh ? '' : `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
}

type Fault = Pick<Problem, 'rule' | 'message'> & { readonly hint?: string }

function refused(path: string, mtimeMs: number, fault: Fault): FileVersion<never> {
  const problem: Problem = { file: path, line: 0, column: 0, path: '', hint: '', ...fault }
  return {
    path,
    stamp: '',
    hash: `${fault.rule}: ${fault.message}`,
    mtimeMs,
    text: '',
    reading: { ok: false, problems: [problem] },
  }
}

/** Why somebody else's hand may have been in a file; null where it cannot. */
function foreignFault({ uid, mode }: BigIntStats, { user, owners }: FileRules): Fault | null {
  if (!owners.has(Number(uid))) {
    const trusted = user === null ? 'root, the agent and the owner of the directory' : user
    return {
      rule: 'foreign-owner',
      message: `the file belongs to user ${uid}, and only those of ${trusted} count here`,
      hint:
        user === null
          ? 'chown root it, or drop it into the user’s own directory'
          : `chown ${user} it`,
    }
  }
  if ((mode & 0o002n) === 0n) return null
  return { rule: 'open-to-all', message: 'anybody may write to the file', hint: 'chmod o-w it' }
}

function unreadable(path: string, code: string): Fault {
  if (code === 'ELOOP') {
    const hint = 'put the file itself here'
    return { rule: 'linked-file', message: 'symbolic links are not followed', hint }
  }
  const hint = code === 'EACCES' ? `let the agent's user read ${path}` : ''
  return { rule: 'unreadable', message: `the file cannot be read (${code})`, hint }
}
