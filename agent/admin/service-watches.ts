/**
 * Owns the streams by which local programs follow services (`text/event-stream`, WHATWG HTML §9.2):
 * first what there is, then every change. There are few, readers keep up or are cut off, and a service
 * is told of only when it changed.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { ServiceReport } from '#shared/model/admin-services.ts'
import { parseServiceName } from '#shared/model/names.ts'
import type { Asker } from './application-api.ts'
import { json, type Answer, type StreamedAnswer, type StreamedBody } from './bounded-server.ts'

/** What watches lean on. */
export interface ServiceWatchesParts {
  readonly clock: Clock
  readonly services: () => readonly ServiceReport[]
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
  readonly wanted: ReadonlySet<string> | null
  readonly out: StreamedBody
  /** What was last told of each service, as text. */
  readonly told: Map<string, string>
}

const mostNames = 256

/** See the header. */
export class ServiceWatches {
  readonly #parts: ServiceWatchesParts
  readonly #settings: ServiceWatchesSettings
  readonly #watches = new Set<Watch>()
  #gathering: Timer | null = null
  #breathing: Timer | null = null

  constructor(parts: ServiceWatchesParts, settings: ServiceWatchesSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Begins a stream about these services, or about all where none is named. */
  answer(asker: Asker, names: readonly string[]): Answer | StreamedAnswer {
    const bad = names.find((name) => !parseServiceName(name).ok)
    if (bad !== undefined || names.length > mostNames) {
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
        const wanted = names.length === 0 ? null : new Set(names)
        const watch: Watch = { asker: who, wanted, out, told: new Map() }
        this.#watches.add(watch)
        this.#breathe()
        tell(watch, this.#parts.services())
        out.write('event: ready\ndata: {}\n\n')
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
      for (const watch of this.#watches) tell(watch, services)
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
      for (const { out } of this.#watches) out.write(': still here\n\n')
    })
  }
}

function tell({ wanted, told, out }: Watch, services: readonly ServiceReport[]): void {
  const gone = new Set(told.keys())
  for (const service of services) {
    if (wanted?.has(service.name) === false) continue
    gone.delete(service.name)
    const text = JSON.stringify(service)
    if (told.get(service.name) === text) continue
    told.set(service.name, text)
    out.write(`event: service\ndata: ${text}\n\n`)
  }
  for (const name of gone) {
    told.delete(name)
    out.write(`event: gone\ndata: ${JSON.stringify({ name })}\n\n`)
  }
}
