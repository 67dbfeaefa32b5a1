/**
 * A program: many simulated hosts on one store, for the bench of scale. Each is a real link with a
 * lease, a list, a watch and its records; instead of the records of others it keeps only at which
 * revision each was last changed. Told what to do by lines of JSON, it answers in the same way. The
 * one argument is its settings, JSON.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Listing, StoreEvent } from '#shared/store/key-value.ts'
import { meshPrefix } from '#shared/store/keys.ts'
import { StoreLink } from '#shared/store/link.ts'
import { wholeMesh, type Scope } from '#shared/store/scope.ts'
import type { StoreChange, ViewKeeper } from '#shared/store/view.ts'
import { entryOf, instanceOf, presenceOf } from '#test/support/mesh-records.ts'
import {
  placeOf,
  placesOf,
  serviceOf,
  servicesOf,
  type SimulatedOrder,
  type SimulatedReport,
  type SimulatedSettings,
} from './simulation.ts'
import { openThinStore } from './thin-store.ts'

const settings = JSON.parse(process.argv[2] ?? '{}') as SimulatedSettings
const { first, count, hosts, instances, endpoint } = settings
const leaseTtlMs = 15_000

/** A map that says how large it is and holds nothing: for the pace of a link only. */
class Sized extends Map<string, string> {
  count = 0
  override get size(): number {
    return this.count
  }
}

/** The revision at which each instance was last changed; see the header. */
class Revisions implements ViewKeeper {
  revision = 0
  readonly entries = new Sized()
  readonly of = new Float64Array(hosts * instances)

  replace({ revision, entries }: Listing): StoreChange {
    this.of.fill(0)
    for (const { key, modRevision } of entries) this.#note(key, modRevision)
    this.entries.count = entries.length
    this.revision = revision
    return { revision, changedKeys: 'all', removed: new Map() }
  }

  /** Hosts of the bench follow the same from beginning to end. */
  extend(listing: Listing): StoreChange {
    return this.replace(listing)
  }

  forget(): StoreChange {
    return { revision: this.revision, changedKeys: [], removed: new Map() }
  }

  apply(events: readonly StoreEvent[]): StoreChange | null {
    for (const event of events) {
      if (event.kind === 'put') this.#note(event.entry.key, event.entry.modRevision)
      else this.#note(event.key, 0)
      const { modRevision } = event.kind === 'put' ? event.entry : event
      this.revision = Math.max(this.revision, modRevision)
    }
    return { revision: this.revision, changedKeys: [], removed: new Map() }
  }

  #note(key: string, revision: number): void {
    const at = placeOf(key, settings)
    if (at >= 0) this.of[at] = revision
  }
}

interface Host {
  readonly index: number
  readonly link: StoreLink
  readonly view: Revisions
  /** The numbers of the instances it follows. */
  readonly places: readonly number[]
  weight: number
}

const everywhere = placesOf(null, settings)
/** Sessions that have ended, by what ended them. */
const ended: Record<string, number> = {}

function makeHost(index: number): Host {
  const view = new Revisions()
  const parts = { clock: systemClock, random: systemRandom }
  const used = servicesOf(index, settings)
  // As the disk has it of a host that was in a large mesh before.
  const scope: Scope =
    used === null ? wholeMesh : { kind: 'services', services: used as ReadonlySet<ServiceName> }
  const link = new StoreLink(
    {
      ...parts,
      logger: createLogger({ name: 'simulated', level: 'silent' }),
      connect: async () => openThinStore(endpoint),
      view,
      scope: { choose: () => scope },
    },
    { prefix: meshPrefix, leaseTtlMs },
  )
  link.onState((state) => {
    if (state.kind === 'away') ended[state.reason] = (ended[state.reason] ?? 0) + 1
  })
  const host = {
    index,
    link,
    view,
    places: used === null ? everywhere : placesOf(used, settings),
    weight: 100,
  }
  publish(host)
  return host
}

/** Says what a host offers; one of its instances has the host's newest weight. */
function publish({ index, link, weight }: Host): void {
  const name = `h-${index}`
  const address = `10.${index >> 8}.${index & 255}.1`
  const records = Array.from({ length: instances }, (_, instance) =>
    instanceOf(serviceOf(index, instance, settings), name, instance === 0 ? { weight } : {}),
  )
  link.publish(new Map([presenceOf(name, { address }), ...records].map(entryOf)))
}

const all = Array.from({ length: count }, (_, i) => makeHost(first + i))

const loop = monitorEventLoopDelay()
loop.enable()

function report(expected: readonly number[] | null): SimulatedReport {
  const busyMs = Math.round(loop.max / 1e6)
  loop.reset()
  let missing = 0
  let differing = 0
  for (const { view, places } of all) {
    missing = Math.max(missing, places.filter((place) => view.of[place] === 0).length)
    if (places.some((place) => view.of[place] !== expected?.[place])) differing += 1
  }
  const connected = all.filter(({ link }) => link.state.kind === 'connected').length
  return { connected, missing, differing, ended, busyMs }
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as SimulatedOrder
  switch (order.kind) {
    case 'join':
      for (const [i, { link }] of all.entries()) {
        setTimeout(() => link.start(), (order.withinMs * i) / all.length)
      }
      break
    case 'change': {
      for (let i = 0; i < order.count; i++) {
        const host = all[Math.floor(Math.random() * all.length)]
        if (host === undefined) continue
        host.weight = 1 + ((host.weight + 1) % 999)
        publish(host)
      }
      break
    }
    case 'report':
      process.stdout.write(`${JSON.stringify(report(order.expected))}\n`)
      break
  }
}
process.exit(0)
