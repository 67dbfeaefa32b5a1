/**
 * Owns the few messages of etcd that a thin client writes and reads, by hand: of records only their
 * keys and revisions. Who carries them is `thin-store.ts`.
 */

import type { Entry, LeaseId, Operation, StoreEvent } from '#shared/store/key-value.ts'

// ---- protobuf, written

function varint(value: number | bigint): Buffer {
  const octets: number[] = []
  let rest = BigInt(value)
  do {
    octets.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0))
    rest >>= 7n
  } while (rest > 0n)
  return Buffer.from(octets)
}

export function number(field: number, value: number | bigint): readonly Buffer[] {
  return [varint(field << 3), varint(value)]
}

export function bytes(field: number, value: Buffer): readonly Buffer[] {
  return [varint((field << 3) | 2), varint(value.length), value]
}

export function operation(step: Operation): readonly Buffer[] {
  const key = bytes(1, Buffer.from(step.key))
  switch (step.kind) {
    case 'put': {
      const value = bytes(2, Buffer.from(step.value))
      const under = step.lease === undefined ? [] : lease(3, step.lease)
      return bytes(2, Buffer.concat([...key, ...value, ...under]))
    }
    case 'delete':
      return bytes(3, Buffer.concat(key))
    case 'get':
      return bytes(1, Buffer.concat(key))
  }
}

export function range(
  prefix: string,
  {
    from,
    revision,
    limit,
  }: { readonly from: string; readonly revision: number; readonly limit: number },
): readonly Buffer[] {
  const bounds = [...bytes(1, Buffer.from(from)), ...bytes(2, endOf(prefix))]
  return [...bounds, ...number(3, limit), ...number(4, revision)]
}

export function endOf(prefix: string): Buffer {
  const end = Buffer.from(prefix)
  end[end.length - 1] = (end.at(-1) ?? 0) + 1
  return end
}

// ---- protobuf, read

/** Goes through the fields of a message. */
class Reader {
  readonly #message: Buffer
  #at: number
  readonly #end: number
  /** Of the field that was read last. */
  field = 0
  value = 0
  from = 0
  to = 0

  constructor(message: Buffer, from = 0, to = message.length) {
    this.#message = message
    this.#at = from
    this.#end = to
  }

  next(): boolean {
    if (this.#at >= this.#end) return false
    const tag = this.#varint()
    this.field = tag >>> 3
    this.from = this.#at
    this.value = this.#varint()
    if ((tag & 7) === 2) {
      this.from = this.#at
      this.#at += this.value
    }
    this.to = this.#at
    return true
  }

  #varint(): number {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const octet = this.#message[this.#at++] ?? 0
      value += (octet & 0x7f) * scale
      if (octet < 0x80) return value
    }
  }
}

export function varintOf(message: Buffer, field: number): bigint {
  for (let at = 0; at < message.length;) {
    const read = (): bigint => {
      let value = 0n
      for (let shift = 0n; ; shift += 7n) {
        const octet = message[at++] ?? 0
        value |= BigInt(octet & 0x7f) << shift
        if (octet < 0x80) return value
      }
    }
    const tag = Number(read())
    const value = read()
    if (tag >> 3 === field) return value
    if ((tag & 7) === 2) at += Number(value)
  }
  return 0n
}

/** The id of a lease that an answer tells in a field; null where it has none. */
export function leaseOf(message: Buffer, field: number): LeaseId | null {
  const answer = new Reader(message)
  while (answer.next()) if (answer.field === field) return leaseAt(message, answer.from, answer.to)
  return null
}

/** An id of 63 bits, which no number holds: the octets of its varint. */
function leaseAt(message: Buffer, from: number, to: number): LeaseId {
  return message.toString('latin1', from, to) as LeaseId
}

/** The id of a lease as a field of a question. */
export function lease(field: number, id: LeaseId): readonly Buffer[] {
  return [varint(field << 3), Buffer.from(id, 'latin1')]
}

/** Of the header, the first field of every answer. */
export function revisionOf(message: Buffer): number {
  const answer = new Reader(message)
  while (answer.next()) {
    if (answer.field !== 1) continue
    const header = new Reader(message, answer.from, answer.to)
    while (header.next()) if (header.field === 3) return header.value
  }
  return 0
}

/** A record without its value, which nobody asks a simulated host for. */
function entryAt(message: Buffer, from: number, to: number): Entry {
  const record = new Reader(message, from, to)
  let [key, createRevision, modRevision, version] = ['', 0, 0, 0]
  let lease: LeaseId | null = null
  while (record.next()) {
    if (record.field === 1) key = message.toString('latin1', record.from, record.to)
    else if (record.field === 2) createRevision = record.value
    else if (record.field === 3) modRevision = record.value
    else if (record.field === 4) version = record.value
    else if (record.field === 6) lease = leaseAt(message, record.from, record.to)
  }
  return { key, value: '', createRevision, modRevision, version, lease }
}

export class Listed {
  readonly revision: number
  readonly entries: Entry[] = []
  more = false

  constructor(message: Buffer) {
    this.revision = revisionOf(message)
    const answer = new Reader(message)
    while (answer.next()) {
      if (answer.field === 2) this.entries.push(entryAt(message, answer.from, answer.to))
      else if (answer.field === 3) this.more = answer.value === 1
    }
  }
}

/** What each range of a transaction answers. */
export function pagesOf(message: Buffer): readonly Listed[] {
  const pages: Listed[] = []
  const answer = new Reader(message)
  while (answer.next()) {
    if (answer.field !== 3) continue
    const response = new Reader(message, answer.from, answer.to)
    while (response.next()) {
      if (response.field === 1) pages.push(new Listed(message.subarray(response.from, response.to)))
    }
  }
  return pages
}

export class Watched {
  id = 0
  readonly events: StoreEvent[] = []
  isCancelled = false

  /** What a message says; what every host is told of the same watch is read once. */
  static of(message: Buffer): Watched {
    if (this.#last !== null && this.#lastMessage.equals(message)) return this.#last
    const watched = new Watched(message)
    this.#lastMessage = Buffer.from(message)
    this.#last = watched
    return watched
  }

  static #lastMessage: Buffer = Buffer.alloc(0)
  static #last: Watched | null = null

  constructor(message: Buffer) {
    const answer = new Reader(message)
    while (answer.next()) {
      if (answer.field === 2) this.id = answer.value
      else if (answer.field === 4) this.isCancelled = answer.value === 1
      else if (answer.field === 11) this.#add(message, answer.from, answer.to)
    }
  }

  #add(message: Buffer, from: number, to: number): void {
    const event = new Reader(message, from, to)
    let isDelete = false
    let entry: Entry | null = null
    while (event.next()) {
      if (event.field === 1) isDelete = event.value === 1
      else if (event.field === 2) entry = entryAt(message, event.from, event.to)
    }
    if (entry === null) return
    const { key, modRevision } = entry
    this.events.push(isDelete ? { kind: 'delete', key, modRevision } : { kind: 'put', entry })
  }
}
