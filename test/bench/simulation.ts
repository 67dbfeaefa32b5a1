/**
 * Owns the simulated fleet of the bench of scale as its driver sees it: how hosts and services are
 * numbered, and the programs that play them.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { instancesPrefix } from '#shared/store/keys.ts'

/** The fleet: how many hosts, how many instances each, of how many services. */
export interface Fleet {
  readonly hosts: number
  readonly instances: number
  readonly services: number
  /** Up to so many instances each host follows all, above that those of services it uses; see `wholeMesh`. */
  readonly wholeMesh: number
}

/** What a program of simulated hosts is given. */
export interface SimulatedSettings extends Fleet {
  /** Its first host and how many it plays. */
  readonly first: number
  readonly count: number
  readonly endpoint: string
}

/** What it is told. */
export type SimulatedOrder =
  /** All of them start, evenly over this time. */
  | { readonly kind: 'join'; readonly withinMs: number }
  /** So many hosts, drawn at random, change one record each. */
  | { readonly kind: 'change'; readonly count: number }
  /** Asks for a report; with it, how many hosts know anything but these revisions of all instances. */
  | { readonly kind: 'report'; readonly expected: readonly number[] | null }

/** What it answers. */
export interface SimulatedReport {
  /** Hosts whose session is up. */
  readonly connected: number
  /** Instances not known to the host that knows the least of what it follows. */
  readonly missing: number
  /** Hosts that know otherwise of what they follow than was expected; all, where nothing was. */
  readonly differing: number
  /** How many sessions have ended so far, by what ended them. */
  readonly ended: Readonly<Record<string, number>>
  /** Longest time for which a program was too busy to hear, since the last report, milliseconds. */
  readonly busyMs: number
}

/** The service of a host's instance: each service has its instances on different hosts. */
export function serviceOf(host: number, instance: number, fleet: Fleet): string {
  return `s-${(host * fleet.instances + instance) % fleet.services}`
}

/** The number of an instance by its key; -1 for any other key. */
export function placeOf(key: string, { hosts, instances, services }: Fleet): number {
  if (!key.startsWith(instancesPrefix)) return -1
  const [service = '', host = ''] = key.slice(instancesPrefix.length).split('/', 2)
  if (!service.startsWith('s-') || !host.startsWith('h-')) return -1
  const index = Number(host.slice(2))
  const instance =
    (Number(service.slice(2)) - ((index * instances) % services) + services) % services
  return index < hosts && instance < instances ? index * instances + instance : -1
}

/** The services that a host serves, and as many others that it calls; null: it follows all. */
export function servicesOf(host: number, fleet: Fleet): ReadonlySet<string> | null {
  const { hosts, instances, services, wholeMesh } = fleet
  if (hosts * instances <= wholeMesh) return null
  const used = new Set<string>()
  for (let i = 0; i < 2 * instances; i++) used.add(`s-${(host * instances + i) % services}`)
  return used
}

/** The numbers of the instances of some services; null: of all. */
export function placesOf(used: ReadonlySet<string> | null, fleet: Fleet): readonly number[] {
  const { hosts, instances, services } = fleet
  const all = Array.from({ length: hosts * instances }, (_, place) => place)
  return used === null ? all : all.filter((place) => used.has(`s-${place % services}`))
}

/** Programs of simulated hosts, told and asked together. */
export class Simulation {
  readonly #programs: readonly Program[]

  constructor(fleet: Fleet, settings: { readonly endpoint: string; readonly programs: number }) {
    const { endpoint, programs } = settings
    const each = Math.ceil(fleet.hosts / programs)
    this.#programs = Array.from({ length: programs }, (_, i) => {
      const first = i * each
      return new Program({ ...fleet, endpoint, first, count: Math.min(each, fleet.hosts - first) })
    })
  }

  /** Tells every program; a number of changes is shared among them. */
  tell(order: SimulatedOrder): void {
    this.#programs.forEach((program, i) => {
      if (order.kind !== 'change') program.tell(order)
      else {
        const share = (n: number): number => Math.floor((order.count * n) / this.#programs.length)
        program.tell({ kind: 'change', count: share(i + 1) - share(i) })
      }
    })
  }

  /** Asks all of them what their hosts know, and how many know other than `expected`. */
  async report(expected: readonly number[] | null = null): Promise<SimulatedReport> {
    const reports = await Promise.all(this.#programs.map((program) => program.report(expected)))
    return {
      connected: reports.reduce((sum, { connected }) => sum + connected, 0),
      missing: Math.max(...reports.map(({ missing }) => missing)),
      differing: reports.reduce((sum, { differing }) => sum + differing, 0),
      ended: addedUp(reports.map(({ ended }) => ended)),
      busyMs: Math.max(...reports.map(({ busyMs }) => busyMs)),
    }
  }

  /** Ends all of them at once. */
  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()))
  }
}

function addedUp(
  counts: readonly Readonly<Record<string, number>>[],
): Readonly<Record<string, number>> {
  const sum: Record<string, number> = {}
  for (const [reason, count] of counts.flatMap(Object.entries<number>)) {
    sum[reason] = (sum[reason] ?? 0) + count
  }
  return sum
}

class Program {
  readonly #child: ChildProcess
  #asked: PromiseWithResolvers<SimulatedReport> | null = null

  constructor(settings: SimulatedSettings) {
    const file = join(import.meta.dirname, 'simulated-hosts.ts')
    this.#child = spawn(process.execPath, [file, JSON.stringify(settings)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const { stdout } = this.#child
    if (stdout === null) throw new TypeError('a simulation is listened to')
    createInterface({ input: stdout }).on('line', (line) => {
      this.#asked?.resolve(JSON.parse(line) as SimulatedReport)
    })
    this.#child.once('exit', (code, signal) => {
      this.#asked?.reject(new Error(`simulated hosts have ended: ${code ?? signal}`))
    })
  }

  tell(order: SimulatedOrder): void {
    this.#child.stdin?.write(`${JSON.stringify(order)}\n`)
  }

  report(expected: readonly number[] | null): Promise<SimulatedReport> {
    this.#asked = Promise.withResolvers()
    this.tell({ kind: 'report', expected })
    return this.#asked.promise
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }
}
