/**
 * Owns the newest of everything that workers must know, and how each of it becomes lines for a
 * worker. Whoever sets a value hears whether it is news; it is handed out elsewhere.
 */

import type { Snapshot } from '#shared/model/snapshot.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { ValueKind } from './connected-worker.ts'
import { HandOut } from './hand-out.ts'
import { LineSocket } from './line-socket.ts'
import {
  changesSince,
  localChangesSince,
  type CaptureView,
  type CredentialMessage,
  type ToWorker,
} from './messages.ts'
import { changesBetween, withWholeLocal } from './snapshot-changes.ts'

/** What workers are to trust. */
export type HandedTrust = Omit<Extract<ToWorker, { readonly kind: 'trust' }>, 'kind'>

type CredentialSet = ReadonlyMap<SpiffeId, CredentialMessage>

/** See the header. */
export class WorkerValues {
  #held: readonly CredentialMessage[] = []
  readonly #trust = new HandOut<string>({ whole: (line) => line })
  readonly #capture = new HandOut<string>({ whole: (line) => line })
  readonly #credentials = new HandOut<CredentialSet>({
    whole: (set) => encode({ kind: 'credentials', credentials: [...set.values()] }),
    changes: [
      {
        since: changesSince,
        make: (before, after) =>
          encode({ kind: 'credential-changes', ...changesOf(before, after) }),
      },
    ],
  })
  readonly #snapshot = new HandOut<Snapshot>({
    whole: (snapshot) => encode({ kind: 'snapshot', snapshot }),
    changes: [
      {
        since: localChangesSince,
        make: (before, after) =>
          encode({ kind: 'snapshot-changes', changes: changesBetween(before, after) }),
      },
      {
        since: changesSince,
        make: (before, after) =>
          encode({ kind: 'snapshot-changes', changes: withWholeLocal(before, after) }),
      },
    ],
  })

  /** One of the values. */
  of(kind: ValueKind): Pick<HandOut<unknown>, 'lineFor'> {
    switch (kind) {
      case 'trust':
        return this.#trust
      case 'credentials':
        return this.#credentials
      case 'snapshot':
        return this.#snapshot
      case 'capture':
        return this.#capture
    }
  }

  setTrust(trust: HandedTrust): boolean {
    return setLine(this.#trust, encode({ kind: 'trust', ...trust }))
  }

  setCapture(capture: CaptureView): boolean {
    return setLine(this.#capture, encode({ kind: 'capture', capture }))
  }

  /** An array that is the same object says the same. */
  setCredentials(credentials: readonly CredentialMessage[]): boolean {
    if (credentials === this.#held) return false
    this.#held = credentials
    const now = new Map(credentials.map((credential) => [credential.id, credential]))
    const before = this.#credentials.value
    if (before !== null) {
      const { changed, gone } = changesOf(before, now)
      if (changed.length + gone.length === 0) return false
    }
    this.#credentials.set(now)
    return true
  }

  /** A snapshot that is another object is another snapshot. */
  setSnapshot(snapshot: Snapshot): boolean {
    if (this.#snapshot.value === snapshot) return false
    this.#snapshot.set(snapshot)
    return true
  }
}

function encode(message: ToWorker): string {
  return LineSocket.encode(message)
}

function setLine(value: HandOut<string>, line: string): boolean {
  if (value.value === line) return false
  value.set(line)
  return true
}

/** What became different between two sets of credentials. */
function changesOf(
  before: CredentialSet,
  after: CredentialSet,
): { readonly changed: readonly CredentialMessage[]; readonly gone: readonly SpiffeId[] } {
  const changed = [...after.values()].filter((one) => {
    const old = before.get(one.id)
    return old !== one && (old?.chainPem !== one.chainPem || old.keyPem !== one.keyPem)
  })
  const gone = [...before.keys()].filter((id) => !after.has(id))
  return { changed, gone }
}
