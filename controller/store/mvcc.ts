/**
 * Owns the embedded store's data: every live key, the history that is kept, revisions and leases'
 * rows, with etcd's meaning of create, mod and version. Synchronous, without time and without
 * opinions: who may do what and what a request means is decided above.
 */

import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite'
import { backup } from 'node:sqlite'

/** A key with its value as of some revision. */
export interface StoredRecord {
  readonly key: Buffer
  readonly value: Buffer
  readonly createRevision: number
  readonly modRevision: number
  /** Puts since creation; 0 marks a deletion. */
  readonly version: number
  /** Decimal id, `0` for none. */
  readonly lease: string
}

/** One change, with what was there before it where that is still kept. */
export interface StoredEvent {
  readonly record: StoredRecord
  readonly previous: StoredRecord | null
}

/** Keys from `start` up to and without `end`; null: no upper bound. */
export interface Interval {
  readonly start: Buffer
  readonly end: Buffer | null
}

/** A lease as it is kept. */
export interface StoredLease {
  readonly id: string
  readonly ttlSeconds: number
  /** Who granted it: a SPIFFE id, or empty for this process. */
  readonly owner: string
}

type Row = Readonly<Record<string, SQLOutputValue>>

const columns = 'revision, key, value, create_revision, version, lease'
const emptyValue = Buffer.alloc(0)

/** See the header. */
export class Mvcc {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  #revision: number
  #compacted: number

  constructor(parts: { readonly database: DatabaseSync }) {
    this.#database = parts.database
    const newest = this.#one('SELECT max(revision) AS revision FROM record')
    this.#revision = Math.max(1, Number(newest?.['revision'] ?? 0))
    this.#compacted = Number(this.fact('compacted'))
  }

  /** The newest revision; a fresh store is at 1. */
  get revision(): number {
    return this.#revision
  }

  /** Revisions before this one are gone; -1 in a store that was never compacted. */
  get compacted(): number {
    return this.#compacted
  }

  /** One of `cluster_id`, `member_id`, `compacted`, `moved_to`; empty where it is not set. */
  fact(name: string): string {
    return String(this.#one('SELECT value FROM fact WHERE name = ?', name)?.['value'] ?? '')
  }

  /** For use inside `transaction`. */
  setFact(name: string, value: string): void {
    this.#run('INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)', name, value)
  }

  /** Bytes of the file, and those of them in use. */
  size(): { readonly bytes: number; readonly used: number } {
    const pragma = (name: string): number =>
      Number(Object.values(this.#one(`PRAGMA ${name}`) ?? {})[0])
    const page = pragma('page_size')
    const pages = pragma('page_count')
    return { bytes: page * pages, used: page * (pages - pragma('freelist_count')) }
  }

  /** The live record of one key. */
  live(key: Buffer): StoredRecord | null {
    const row = this.#one(`SELECT ${columns} FROM record WHERE replaced IS NULL AND key = ?`, key)
    return row === undefined ? null : toRecord(row)
  }

  /** Records in the order of their keys, as of a revision that is kept. */
  read(interval: Interval, revision: number, limit: number | null): readonly StoredRecord[] {
    const { where, values } = this.#asOf(interval, revision)
    return this.#all(
      `SELECT ${columns} FROM record WHERE ${where} ORDER BY key LIMIT ?`,
      ...values,
      limit ?? -1,
    ).map((row) => toRecord(row))
  }

  /** How many keys an interval holds as of a revision that is kept. */
  count(interval: Interval, revision: number): number {
    const { where, values } = this.#asOf(interval, revision)
    return Number(this.#one(`SELECT count(*) AS n FROM record WHERE ${where}`, ...values)?.['n'])
  }

  /** At least `limit` changes from a revision on, if there are as many; revisions stay whole. */
  history(fromRevision: number, limit: number): readonly StoredEvent[] {
    const select = (where: string, ...values: readonly SQLInputValue[]): readonly Row[] =>
      this.#all(
        `SELECT r.id, r.revision, r.key, r.value, r.create_revision, r.version, r.lease,
           p.revision AS p_revision, p.key AS p_key, p.value AS p_value,
           p.create_revision AS p_create_revision, p.version AS p_version, p.lease AS p_lease
         FROM record r LEFT JOIN record p
           ON p.key = r.key AND p.replaced = r.revision AND p.revision < r.revision
         WHERE ${where}`,
        ...values,
      )
    const page = select('r.revision >= ? ORDER BY r.id LIMIT ?', fromRevision, limit)
    const last = page.at(-1)
    const rest =
      last === undefined || page.length < limit
        ? []
        : select(
            'r.revision = ? AND r.id > ? ORDER BY r.id',
            last['revision'] ?? 0,
            last['id'] ?? 0,
          )
    return [...page, ...rest].map((row) => ({
      record: toRecord(row),
      previous: row['p_revision'] === null ? null : toRecord(row, 'p_'),
    }))
  }

  /**
   * Runs writes; all of them are on disk when it returns, or none after it threw. Each `Writer`
   * taken inside makes one revision, if it changes anything.
   */
  transaction<T>(run: () => T): T {
    const before = { revision: this.#revision, compacted: this.#compacted }
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      const result = run()
      this.#database.exec('COMMIT')
      return result
    } catch (error) {
      this.#revision = before.revision
      this.#compacted = before.compacted
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  /** For use inside `transaction`: the next revision. */
  writer(): Writer {
    return new Writer(this, this.#revision)
  }

  /** For Writer alone. Answers the change. */
  put(revision: number, key: Buffer, value: Buffer, lease: string): StoredEvent {
    const previous = this.#replace(key, revision)
    const record: StoredRecord = {
      key,
      value,
      createRevision: previous?.createRevision ?? revision,
      modRevision: revision,
      version: (previous?.version ?? 0) + 1,
      lease,
    }
    this.#insert(record, null)
    this.#revision = revision
    return { record, previous }
  }

  /** For Writer alone. Answers the change, or null where there was nothing. */
  remove(revision: number, key: Buffer): StoredEvent | null {
    const previous = this.#replace(key, revision)
    if (previous === null) return null
    const record: StoredRecord = {
      key,
      value: emptyValue,
      createRevision: 0,
      modRevision: revision,
      version: 0,
      lease: '0',
    }
    this.#insert(record, revision)
    this.#revision = revision
    return { record, previous }
  }

  /** For use inside `transaction`: forgets what was replaced by `revision` or before. */
  compact(revision: number): void {
    this.#run('DELETE FROM record WHERE replaced <= ? AND revision < ?', revision, revision)
    this.#run("UPDATE fact SET value = ? WHERE name = 'compacted'", String(revision))
    this.#compacted = revision
  }

  leases(): readonly StoredLease[] {
    return this.#all('SELECT id, ttl_seconds, owner FROM lease').map(toLease)
  }

  lease(id: string): StoredLease | null {
    const row = this.#one('SELECT id, ttl_seconds, owner FROM lease WHERE id = ?', id)
    return row === undefined ? null : toLease(row)
  }

  /** How many leases somebody has. */
  leasesOf(owner: string): number {
    return Number(this.#one('SELECT count(*) AS n FROM lease WHERE owner = ?', owner)?.['n'])
  }

  /** Every live record. */
  *everything(): Iterable<StoredRecord> {
    const sql = `SELECT ${columns} FROM record WHERE replaced IS NULL`
    for (const row of this.#prepare(sql).iterate()) yield toRecord(row)
  }

  /** Live keys under a lease, in their order. */
  keysOf(lease: string): readonly Buffer[] {
    return this.#all(
      `SELECT key FROM record
       WHERE replaced IS NULL AND lease <> '0' AND lease = ? ORDER BY key`,
      lease,
    ).map((row) => toBuffer(row['key']))
  }

  /** For use inside `transaction`. */
  addLease(lease: StoredLease): void {
    this.#run(
      'INSERT INTO lease (id, ttl_seconds, owner) VALUES (?, ?, ?)',
      lease.id,
      lease.ttlSeconds,
      lease.owner,
    )
  }

  /** For use inside `transaction`; its keys are the caller's to remove. */
  removeLease(id: string): void {
    this.#run('DELETE FROM lease WHERE id = ?', id)
  }

  /**
   * Copies everything into a file of its own, a few pages at a time, off this thread. Nothing may be
   * written meanwhile; reads may go on.
   */
  async copyTo(path: string): Promise<void> {
    await backup(this.#database, path, { rate: 256 })
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }

  /** Marks a live record as replaced and answers it. */
  #replace(key: Buffer, revision: number): StoredRecord | null {
    const live = this.#one(
      `SELECT id, ${columns} FROM record WHERE replaced IS NULL AND key = ?`,
      key,
    )
    if (live === undefined) return null
    this.#run('UPDATE record SET replaced = ? WHERE id = ?', revision, live['id'] ?? 0)
    return toRecord(live)
  }

  #insert(record: StoredRecord, replaced: number | null): void {
    this.#run(
      `INSERT INTO record (${columns}, replaced) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      record.modRevision,
      record.key,
      record.value,
      record.createRevision,
      record.version,
      record.lease,
      replaced,
    )
  }

  #asOf(
    interval: Interval,
    revision: number,
  ): { readonly where: string; readonly values: readonly SQLInputValue[] } {
    const { start, end } = interval
    const range = end === null ? 'key >= ?' : 'key >= ? AND key < ?'
    const bounds = end === null ? [start] : [start, end]
    return revision >= this.#revision
      ? { where: `replaced IS NULL AND ${range}`, values: bounds }
      : {
          where: `${range} AND revision <= ? AND (replaced IS NULL OR replaced > ?)`,
          values: [...bounds, revision, revision],
        }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #all(sql: string, ...values: readonly SQLInputValue[]): readonly Row[] {
    return this.#prepare(sql).all(...values)
  }

  #one(sql: string, ...values: readonly SQLInputValue[]): Row | undefined {
    return this.#prepare(sql).get(...values)
  }

  #run(sql: string, ...values: readonly SQLInputValue[]): void {
    this.#prepare(sql).run(...values)
  }
}

/** The writes of one request: they share one revision and are seen by its own later reads. */
export class Writer {
  readonly #mvcc: Mvcc
  readonly #base: number
  readonly #events: StoredEvent[] = []

  constructor(mvcc: Mvcc, base: number) {
    this.#mvcc = mvcc
    this.#base = base
  }

  /** Changes so far, in order. */
  get events(): readonly StoredEvent[] {
    return this.#events
  }

  /** The revision reads and answers show: the new one once something changed. */
  get revision(): number {
    return this.#events.length === 0 ? this.#base : this.#base + 1
  }

  put(key: Buffer, value: Buffer, lease: string): StoredEvent {
    const event = this.#mvcc.put(this.#base + 1, key, value, lease)
    this.#events.push(event)
    return event
  }

  remove(key: Buffer): StoredEvent | null {
    const event = this.#mvcc.remove(this.#base + 1, key)
    if (event !== null) this.#events.push(event)
    return event
  }
}

function toBuffer(value: SQLOutputValue | undefined): Buffer {
  return value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : emptyValue
}

function toRecord(row: Row, prefix = ''): StoredRecord {
  return {
    key: toBuffer(row[`${prefix}key`]),
    value: toBuffer(row[`${prefix}value`]),
    createRevision: Number(row[`${prefix}create_revision`]),
    modRevision: Number(row[`${prefix}revision`]),
    version: Number(row[`${prefix}version`]),
    lease: String(row[`${prefix}lease`]),
  }
}

function toLease(row: Row): StoredLease {
  return {
    id: String(row['id']),
    ttlSeconds: Number(row['ttl_seconds']),
    owner: String(row['owner']),
  }
}
