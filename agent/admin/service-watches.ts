/**
 * Owns the streams by which local programs follow services (`text/event-stream`, WHATWG HTML §9.2):
 * first what there is, then every change. There are few, readers keep up or are cut off, and a service
 * is told of only when it changed. What a stream names is in use, and looked for where it is not known.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import type { ServiceReport } from '#shared/model/admin-services.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { Asker, LookUp } from './application-api.ts'
import { json, type Answer, type StreamedAnswer, type StreamedBody } from './bounded-server.ts'

/** What watches lean on. */
export interface ServiceWatchesParts {
  readonly clock: Clock
  readonly services: () => readonly ServiceReport[]
  /** Looks for a service where not all are followed. @default all are */
  readonly lookUp?: LookUp
  /** These are in use on this host, as far as they are known. @default nobody needs to know */
  readonly use?: (services: readonly ServiceName[]) => void
}

/** Settings of watches. */
export interface ServiceWatchesSettings {
  /** Most at once, of all programs. @default 64 */
  readonly most?: number
  /** Most at once of one service, and of programs that are none. @default 16 */
  readonly mostOfOne?: number
  /** Changes within this long are told together. @default 20 */
  readonly gatherMs?: number
  /** A sign of life is given this often. @default 15000 */
  readonly quietMs?: number
}

interface Watch {
  readonly asker: string
  /** Names that are followed; null for all. */
  readonly wanted: ReadonlySet<ServiceName> | null
  readonly out: StreamedBody
  /** What was last told of each service, as text. */
  readonly told: Map<string, string>
  /** Whether its turn to look for what it lacks is to come. */
  isWaiting: boolean
}

const mostNames = 256
/** So many lookups of all watches at once: calls need room for theirs. */
const lookupsAtOnce = 8

/** See the header. */
export class ServiceWatches {
  readonly #parts: ServiceWatchesParts
  readonly #settings: ServiceWatchesSettings
  readonly #watches = new Set<Watch>()
  /** One watch after the other looks for what it lacks. */
  readonly #turns = new Lane()
  #gathering: Timer | null = null
  #breathing: Timer | null = null

  constructor(parts: ServiceWatchesParts, settings: ServiceWatchesSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Begins a stream about these services, or about all where none is named. */
  answer(asker: Asker, names: readonly string[]): Answer | StreamedAnswer {
    const good = names.flatMap((text) => {
      const name = parseServiceName(text)
      return name.ok ? [name.value] : []
    })
    if (good.length < names.length || names.length > mostNames) {
      const message = `service must be the name of a service, ${mostNames} times at most`
      return json(400, { error: { code: 'bad-input', message, hint: '' } })
    }
    const who = asker.kind === 'service' ? asker.service : ''
    const { most = 64, mostOfOne = 16 } = this.#settings
    const mine = [...this.#watches].filter((watch) => watch.asker === who).length
    if (this.#watches.size >= most || mine >= mostOfOne) {
      const message = `there are as many streams as there may be (${mostOfOne} of one program)`
      return json(503, { error: { code: 'too-many-watches', message, hint: 'end others first' } })
    }
    return {
      status: 200,
      type: 'text/event-stream',
      begin: (out) => {
        const wanted = good.length === 0 ? null : new Set(good)
        const watch: Watch = { asker: who, wanted, out, told: new Map(), isWaiting: false }
        this.#watches.add(watch)
        this.#breathe()
        tell(watch, this.#parts.services())
        void this.#makeReady(watch)
        return () => this.#end(watch)
      },
    }
  }

  /** Services may have changed. */
  refresh(): void {
    if (this.#watches.size === 0) return
    this.#gathering ??= this.#parts.clock.after(this.#settings.gatherMs ?? 20, () => {
      this.#gathering = null
      const services = this.#parts.services()
      for (const watch of this.#watches) {
        // It may be that it is merely not followed any more.
        if (tell(watch, services) === 'lacks some') void this.#seek(watch)
      }
    })
  }

  /** Ends every stream. */
  stop(): void {
    this.#gathering?.stop()
    this.#breathing?.stop()
    for (const { out } of this.#watches) out.end()
    this.#watches.clear()
  }

  #end(watch: Watch): void {
    this.#watches.delete(watch)
    if (this.#watches.size > 0) return
    this.#breathing?.stop()
    this.#breathing = null
  }

  #breathe(): void {
    this.#breathing ??= this.#parts.clock.every(this.#settings.quietMs ?? 15_000, () => {
      for (const watch of this.#watches) {
        watch.out.write(': still here\n\n')
        void this.#seek(watch)
      }
    })
  }

  async #makeReady(watch: Watch): Promise<void> {
    await this.#seek(watch)
    if (this.#watches.has(watch)) watch.out.write('event: ready\ndata: {}\n\n')
  }

  /** What a watch names is in use; what of it is not known is looked for, and what came of that told. */
  async #seek(watch: Watch): Promise<void> {
    const { wanted } = watch
    if (wanted === null) return
    this.#parts.use?.([...wanted])
    if (watch.isWaiting || this.#lacking(wanted).length === 0) return
    watch.isWaiting = true
    await this.#turns.run(async () => {
      watch.isWaiting = false
      if (!this.#watches.has(watch)) return
      const missing = await this.#lookFor(this.#lacking(wanted))
      if (this.#watches.has(watch)) tell(watch, this.#parts.services(), missing)
    })
  }

  #lacking(wanted: ReadonlySet<ServiceName>): readonly ServiceName[] {
    const known = new Set<string>(this.#parts.services().map(({ name }) => name))
    return [...wanted].filter((name) => !known.has(name))
  }

  /** Answers those that nobody in the mesh has; ends early where the store cannot be asked. */
  async #lookFor(names: readonly ServiceName[]): Promise<ReadonlySet<string>> {
    const { lookUp } = this.#parts
    if (lookUp === undefined) return new Set(names)
    const missing = new Set<string>()
    for (let at = 0; at < names.length; at += lookupsAtOnce) {
      const some = names.slice(at, at + lookupsAtOnce)
      const found = await Promise.all(some.map((name) => lookUp(name)))
      for (const [index, name] of some.entries()) {
        if (found[index] === 'unknown') missing.add(name)
      }
      if (found.some((one) => one === 'away' || one === 'overloaded')) break
    }
    return missing
  }
}

/** Tells what is news, and of what is `missing` that it is gone; a watch of all need not ask. */
function tell(
  { wanted, told, out }: Watch,
  services: readonly ServiceReport[],
  missing: ReadonlySet<string> = new Set(),
): 'lacks some' | 'lacks none' {
  const gone = new Set(told.keys())
  for (const service of services) {
    if (wanted?.has(service.name as ServiceName) === false) continue
    gone.delete(service.name)
    const text = JSON.stringify(service)
    if (told.get(service.name) === text) continue
    told.set(service.name, text)
    out.write(`event: service\ndata: ${text}\n\n`)
  }
  for (const name of gone) {
    if (wanted !== null && !missing.has(name)) continue
    gone.delete(name)
    told.delete(name)
    out.write(`event: gone\ndata: ${JSON.stringify({ name })}\n\n`)
  }
  return gone.size > 0 ? 'lacks some' : 'lacks none'
}
