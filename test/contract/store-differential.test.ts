/**
 * Runs random histories of raw requests against the embedded store and a real etcd side by side:
 * every answer, every refusal and every watched event must be the same. The same histories on every
 * machine; HOSTMESH_FUZZ_CASES asks for more of them and HOSTMESH_FUZZ_SEED for others.
 */

import { join } from 'node:path'
import * as fc from 'fast-check'
import t from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { Etcd3Rpc } from '#shared/store/etcd-rpc.ts'
import { readWireError } from '#shared/store/failures.ts'
import type {
  Compare,
  EtcdRpc,
  KeyRange,
  PutRequest,
  RangeRequest,
  RequestOp,
  WireEvent,
} from '#shared/store/wire.ts'
import { serveStore } from '#test/support/embedded-store.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { shortDir } from '#test/support/short-dir.ts'

/** A revision as generated: so many before the newest one; null is 0, "now". */
type Ago = number | null

/** One request; revisions are relative to the newest one when it is sent. */
type Command =
  | {
      readonly kind: 'range'
      readonly range: Omit<RangeRequest, 'revision'>
      readonly revision: Ago
      readonly minMod: Ago
      readonly maxCreate: Ago
    }
  | { readonly kind: 'put'; readonly put: PutRequest }
  | { readonly kind: 'delete'; readonly range: KeyRange; readonly prevKv: boolean }
  | {
      readonly kind: 'txn'
      readonly compare: readonly (Compare & { readonly revision: Ago })[]
      readonly success: readonly RequestOp[]
      readonly failure: readonly RequestOp[]
    }
  | { readonly kind: 'grant'; readonly lease: string }
  | { readonly kind: 'revoke'; readonly lease: string }
  | { readonly kind: 'keep-alive'; readonly lease: string }
  | { readonly kind: 'time-to-live'; readonly lease: string; readonly keys: boolean }
  | { readonly kind: 'leases' }
  | { readonly kind: 'compact'; readonly revision: number }

const histories = Number(process.env['HOSTMESH_FUZZ_CASES'] ?? 50)
const seed = Number(process.env['HOSTMESH_FUZZ_SEED'] ?? 20_260_101)
/** A late answer would be another one than that of the other. */
const call = { timeoutMs: 30_000 }

t.setTimeout(300_000 + histories * 1000)

const key = fc
  .constantFrom(
    ...['a', 'aa', 'ab', 'b', 'c\0', 'c\xff', '\xff'].flatMap((one) => [one, one, one]),
    '',
  )
  .map(bytes)
const rangeEnd = fc.constantFrom('', '', 'b', 'ac', '\0', 'a', 'c\xff\0').map(bytes)
const value = fc.constantFrom('', 'x', 'y', 'zz').map(bytes)
const lease = fc.constantFrom('0', '0', '0', '0', '701', '702', '9007199254740993')
const ago = fc.option(fc.integer({ min: -1, max: 12 }))
const range = fc.record({ key, range_end: rangeEnd }).map(withoutEmptyEnd)
const rangeRequest = fc
  .record({
    key,
    range_end: rangeEnd,
    limit: fc.constantFrom('0', '0', '1', '2'),
    sort_order: fc.constantFrom('None' as const, 'Ascend' as const, 'Descend' as const),
    sort_target: fc.constantFrom(
      'Key' as const,
      'Version' as const,
      'Create' as const,
      'Mod' as const,
      'Value' as const,
    ),
    keys_only: fc.boolean(),
    count_only: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
  })
  .map(withoutEmptyEnd)
const rarely = fc.integer({ min: 0, max: 9 }).map((n) => n === 0)
const putRequest = fc.record({
  key,
  value,
  lease,
  prev_kv: fc.boolean(),
  ignore_value: rarely,
  ignore_lease: rarely,
})
const compare = fc.record({
  key,
  range_end: rangeEnd,
  result: fc.constantFrom(
    'Equal' as const,
    'Greater' as const,
    'Less' as const,
    'NotEqual' as const,
  ),
  target: fc.constantFrom(
    'Version' as const,
    'Create' as const,
    'Mod' as const,
    'Value' as const,
    'Lease' as const,
  ),
  value,
  lease,
  version: fc.constantFrom('0', '1', '2'),
  revision: ago,
})
const operation: fc.Arbitrary<RequestOp> = fc.oneof(
  rangeRequest.map((request_range) => ({ request_range })),
  putRequest.map((request_put) => ({ request_put })),
  putRequest.map((request_put) => ({ request_put })),
  // etcd overlooks that a deletion without upper bound overlaps a put; the embedded store refuses.
  range
    .filter((each) => !('range_end' in each) || !each.range_end.equals(bytes('\0')))
    .map((each) => ({ request_delete_range: { ...each, prev_kv: true } })),
)
const operations = fc.array(operation, { maxLength: 4 })
const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    kind: fc.constant('range' as const),
    range: rangeRequest,
    revision: ago,
    minMod: fc.option(fc.nat(8), { freq: 1 }),
    maxCreate: fc.option(fc.nat(8), { freq: 1 }),
  }),
  fc.record({ kind: fc.constant('put' as const), put: putRequest }),
  fc.record({ kind: fc.constant('put' as const), put: putRequest }),
  fc.record({ kind: fc.constant('delete' as const), range, prevKv: fc.boolean() }),
  fc.record({
    kind: fc.constant('txn' as const),
    compare: fc.array(compare, { maxLength: 2 }),
    success: operations,
    failure: operations,
  }),
  fc.record({ kind: fc.constant('grant' as const), lease }),
  fc.record({ kind: fc.constant('grant' as const), lease }),
  fc.record({ kind: fc.constant('revoke' as const), lease }),
  fc.record({ kind: fc.constant('keep-alive' as const), lease }),
  fc.record({ kind: fc.constant('time-to-live' as const), lease, keys: fc.boolean() }),
  fc.record({ kind: fc.constant('leases' as const) }),
  fc.record({ kind: fc.constant('compact' as const), revision: fc.integer({ min: -1, max: 20 }) }),
)

t.test(
  'the embedded store answers random histories as etcd does',
  { skip: noEtcd ?? false },
  async (t) => {
    const dir = shortDir(t)
    const etcd = await TestEtcd.start(join(dir, 'etcd'))
    const served = await serveStore(join(dir, 'store.db'))
    const open = (url: string): EtcdRpc =>
      new Etcd3Rpc({ clock: systemClock, random: systemRandom }, { endpoints: [url] })
    const real = open(etcd.url)
    const ours = open(served.url)
    t.teardown(async () => {
      real.close()
      ours.close()
      await served.stop()
      await etcd.kill()
    })

    let newest = 1
    let compacted = 0
    const answers = { given: 0, refused: 0 }
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { minLength: 15, maxLength: 40, size: 'max' }),
        async (commands) => {
          const first = newest
          for (const each of commands) {
            const [theirs, mine] = await Promise.all([
              answerOf(real, each, newest),
              answerOf(ours, each, newest),
            ])
            if (mine.answer !== theirs.answer) {
              return t.equal(mine.answer, theirs.answer, `same answer to ${show(each)}`)
            }
            if (each.kind === 'compact' && theirs.revision > 0) compacted = newest - each.revision
            newest = Math.max(newest, theirs.revision)
            answers[theirs.revision === 0 ? 'refused' : 'given'] += 1
          }
          // etcd 3.4 loses deletions of the very revision it was compacted to.
          const from = first + 1 === compacted ? first + 2 : first + 1
          // The last change is one that both ways of watching see.
          for (const rpc of [real, ours]) await rpc.put({ key: bytes('a') }, call)
          newest += 1
          // On one stream, one of them from where nothing is kept any more.
          const asked = [
            ['everything', compacted > 1 ? compacted - 1 : from],
            ['everything', from],
            ['some', from],
          ] as const
          const [theirs, mine] = await Promise.all(
            [real, ours].map((rpc) =>
              Promise.all(asked.map(([how, start]) => watched(rpc, start, newest, how))),
            ),
          )
          return (
            JSON.stringify(mine) === JSON.stringify(theirs) ||
            t.same(mine, theirs, `same events from ${from} to ${newest}`)
          )
        },
      ),
      { numRuns: histories, seed, endOnFailure: true },
    )
    t.ok(newest > 200, `histories long enough to tell (${newest} revisions)`)
    t.ok(answers.given > 300 && answers.refused > 50, `both kinds: ${JSON.stringify(answers)}`)
  },
)

/** etcd takes an end that is sent but empty for "no upper bound"; no client of ours sends one. */
function withoutEmptyEnd<T extends KeyRange>(range: T): T | Omit<T, 'range_end'> {
  const { range_end: end, ...rest } = range
  return end === undefined || end.length === 0 ? rest : range
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

function show(command: Command): string {
  return JSON.stringify(command, (_, value: unknown) =>
    isBytes(value) ? Buffer.from(value.data).toString('latin1') : value,
  )
}

function isBytes(value: unknown): value is { readonly data: readonly number[] } {
  return typeof value === 'object' && value !== null && 'data' in value
}

async function answerOf(
  rpc: EtcdRpc,
  command: Command,
  newest: number,
): Promise<{ readonly revision: number; readonly answer: string }> {
  try {
    const response = await send(rpc, command, newest)
    const { header } = response
    return { revision: Number(header.revision), answer: canonical(response) }
  } catch (error) {
    const { code, message } = readWireError(error)
    return { revision: 0, answer: `${code} ${message}` }
  }
}

function send(
  rpc: EtcdRpc,
  command: Command,
  newest: number,
): Promise<{ readonly header: { readonly revision: string } }> {
  const at = (ago: Ago): string => (ago === null ? '0' : String(Math.max(0, newest - ago)))
  switch (command.kind) {
    case 'range': {
      const { range, revision, minMod, maxCreate } = command
      return rpc.range(
        {
          ...range,
          revision: at(revision),
          min_mod_revision: at(minMod),
          max_create_revision: at(maxCreate),
        },
        call,
      )
    }
    case 'put':
      return rpc.put(command.put, call)
    case 'delete':
      return rpc.deleteRange({ ...command.range, prev_kv: command.prevKv }, call)
    case 'txn': {
      const compare = command.compare.map((each) => toCompare(each, at(each.revision)))
      return rpc.txn({ compare, success: command.success, failure: command.failure }, call)
    }
    case 'grant':
      return rpc.leaseGrant(
        { ID: command.lease === '0' ? '703' : command.lease, TTL: '1000' },
        call,
      )
    case 'revoke':
      return rpc.leaseRevoke({ ID: command.lease }, call)
    case 'keep-alive':
      return rpc.leaseKeepAlive({ ID: command.lease }, call)
    case 'time-to-live':
      return rpc
        .leaseTimeToLive({ ID: command.lease, keys: command.keys }, call)
        .then((answer) => ({
          ...answer,
          // The two servers count from moments of their own, and etcd's keys come in no order.
          TTL: Number(answer.TTL) > 0 ? 'some' : answer.TTL,
          keys: answer.keys.map((each) => each.toString('latin1')).sort(),
        }))
    case 'leases':
      return rpc
        .leaseLeases(call)
        .then((answer) => ({ ...answer, leases: answer.leases.map(({ ID }) => ID).sort() }))
    case 'compact':
      return rpc.compact({ revision: at(command.revision), physical: true }, call)
  }
}

/** Sets the one member that the target asks for. */
function toCompare(generated: Compare, revision: string): Compare {
  const { key, range_end, result, target }: Compare = withoutEmptyEnd(generated)
  const base = { ...(key && { key }), ...(range_end && { range_end }), ...(result && { result }) }
  switch (target ?? 'Version') {
    case 'Version':
      return { ...base, target: 'Version', version: generated.version ?? '0' }
    case 'Create':
      return { ...base, target: 'Create', create_revision: revision }
    case 'Mod':
      return { ...base, target: 'Mod', mod_revision: revision }
    case 'Value':
      return { ...base, target: 'Value', value: generated.value ?? Buffer.alloc(0) }
    case 'Lease':
      return { ...base, target: 'Lease', lease: generated.lease ?? '0' }
  }
}

/** Everything but who answered. */
function canonical(answer: unknown): string {
  const hidden = new Set(['cluster_id', 'member_id', 'raft_term'])
  return JSON.stringify(answer, (name, value: unknown) => (hidden.has(name) ? undefined : value))
}

/** What is watched: everything there is, or the puts of a few keys, without what was before. */
const watches = {
  everything: { key: bytes('\0'), range_end: bytes('\0'), prev_kv: true },
  some: { key: bytes('a'), range_end: bytes('b'), filters: ['Nodelete'], fragment: true },
} as const

/** The events from one revision up to another, or the compaction that forbids it. */
async function watched(
  rpc: EtcdRpc,
  from: number,
  to: number,
  how: keyof typeof watches,
): Promise<readonly string[]> {
  const events: WireEvent[] = []
  if (to < from) return []
  return new Promise((resolve, reject) => {
    const done = (lines: readonly string[]): void => {
      watch.cancel()
      resolve(lines)
    }
    const watch = rpc.watch(
      { ...watches[how], start_revision: String(from) },
      {
        onEnd: reject,
        onResponse: (response) => {
          if (response.canceled) {
            done([`compacted at ${response.compact_revision}`])
            return
          }
          events.push(...response.events)
          if (Number(events.at(-1)?.kv.mod_revision ?? 0) >= to) done(events.map(canonical))
        },
      },
    )
  })
}
