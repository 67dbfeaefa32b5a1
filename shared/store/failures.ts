/** Owns the reading of a store's refusals: gRPC status and etcd's words in, MeshError out. */

import { connectWords } from '#shared/lifecycle/connect-words.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { StoreErrorCode } from './key-value.ts'
import { WireError } from './wire.ts'

interface Meaning {
  readonly code: StoreErrorCode
  readonly hint: string
  readonly retry: boolean
}

const refused: Meaning = {
  code: 'store-refused',
  hint: 'The store did not accept the call; its own words are in the message.',
  retry: false,
}
const unavailable: Meaning = {
  code: 'store-unavailable',
  hint: 'Check that the store runs, that its address is right and that this host can reach it.',
  retry: true,
}
const denied: Meaning = {
  code: 'store-denied',
  hint: 'Check which identity this host has and what the store lets it read and write.',
  retry: false,
}

const late: Meaning = {
  code: 'store-timeout',
  hint: 'The store is too slow or hangs; check its disk and its load.',
  retry: true,
}

/** By gRPC status code. */
const byStatus: ReadonlyMap<number, Meaning> = new Map([
  [1, { code: 'store-cancelled', hint: 'The call was given up.', retry: true }],
  [4, late],
  [7, denied],
  [16, denied],
  [14, unavailable],
])

/** By a part of etcd's message, where the status alone does not tell. */
const byWords: readonly (readonly [string, Meaning])[] = [
  [
    'required revision has been compacted',
    { code: 'store-compacted', hint: 'List again and go on from there.', retry: true },
  ],
  [
    'database space exceeded',
    {
      code: 'store-full',
      hint: 'Free space on the store’s disk, or raise its quota; reads and what is stored go on.',
      retry: true,
    },
  ],
  [
    'the store has moved',
    {
      code: 'store-moved',
      hint: 'Name the new store in the controller’s configuration and restart it, or run meshctl store migrate --undo.',
      retry: true,
    },
  ],
  [
    'required revision is a future revision',
    {
      code: 'store-future-revision',
      hint: 'The store is older than this client’s view: was a backup restored?',
      retry: false,
    },
  ],
  // With a cause behind it, as a leader that was lost, it will be over soon: see the status.
  ['request timed out, waiting for the applied index', late],
  ['too many requests', late],
  [
    'requested lease not found',
    {
      code: 'store-lease-not-found',
      hint: 'The lease lapsed or was revoked; grant a new one and put its keys again.',
      retry: false,
    },
  ],
]

/** gRPC's own text, and what etcd3 makes of it for leases. */
const grpcText = /^(?:\w+: |Lease )?(\d{1,2}) [A-Z_]+: (.*?)(?: is expired or revoked)?$/s

/** Code and words of anything a call threw. gRPC errors carry a code; etcd3 hides it in the text. */
export function readWireError(error: unknown): WireError {
  if (error instanceof WireError) return error
  const message = messageOf(error)
  const text = grpcText.exec(message)
  if (text !== null) return new WireError(Number(text[1]), text[2] ?? '', error)
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return new WireError(typeof code === 'number' ? code : 2, message, error)
}

/**
 * The MeshError of anything a call threw.
 *
 * @param doing - what was tried, as in `put /mesh/v1/presence/a`
 */
export function storeError(doing: string, error: unknown): MeshError {
  if (error instanceof MeshError) return error
  const wire = readWireError(error)
  const meaning =
    byWords.find(([words]) => wire.message.includes(words))?.[1] ??
    byStatus.get(wire.code) ??
    refused
  return new MeshError(`store: ${doing}: ${connectWords(wire.message)}`, {
    ...meaning,
    cause: error,
  })
}
