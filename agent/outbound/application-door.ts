/**
 * Owns the way of a captured connection to `agent.mesh`: to the control process, with one line before
 * it that says whose it is. What is asked there is none of a worker's business.
 */

import { connect, type Socket } from 'node:net'
import { oneTooManyReply, unavailableReply } from '#shared/http/unavailable-reply.ts'
import type { ServiceName } from '#shared/model/names.ts'

/** Settings of the door. */
export interface ApplicationDoorSettings {
  readonly socketPath: string
  /**
   * Most connections of one worker at once; the next is refused. The far end counts those of all workers.
   * @default 256, as many as that takes
   */
  readonly most?: number
  /** Most of them by one caller, lest it shut out the others. @default 32, as above */
  readonly mostOfOne?: number
}

/** See the header. */
export class ApplicationDoor {
  readonly #settings: ApplicationDoorSettings
  #open = 0
  /** The same by caller, for those that have any. */
  readonly #openBy = new Map<ServiceName | null, number>()

  constructor(settings: ApplicationDoorSettings) {
    this.#settings = settings
  }

  /** Hands a connection on; `caller` is the service whose it is, null for nobody's. */
  accept(socket: Socket, caller: ServiceName | null): void {
    const { socketPath, most = 256, mostOfOne = 32 } = this.#settings
    const isOneTooMany = (this.#openBy.get(caller) ?? 0) >= mostOfOne
    if (this.#open >= most || isOneTooMany) {
      const who = caller === null ? 'nobody' : 'service'
      socket.on('error', () => {})
      socket.end(oneTooManyReply(isOneTooMany ? who : 'all'))
      return
    }
    this.#count(caller, 1)
    const far = connect({ path: socketPath, allowHalfOpen: true })
    let isThere = false
    far.once('connect', () => {
      isThere = true
      far.write(`${JSON.stringify({ service: caller })}\n`)
      socket.pipe(far)
      far.pipe(socket)
    })
    far.once('error', () => {
      if (isThere) socket.destroy()
      else socket.end(unavailableReply('the agent is being restarted'))
    })
    socket.on('error', () => far.destroy())
    socket.once('close', () => {
      this.#count(caller, -1)
      far.destroy()
    })
    far.once('close', () => {
      if (isThere) socket.destroySoon()
    })
  }

  #count(caller: ServiceName | null, change: 1 | -1): void {
    this.#open += change
    const ofCaller = (this.#openBy.get(caller) ?? 0) + change
    if (ofCaller === 0) this.#openBy.delete(caller)
    else this.#openBy.set(caller, ofCaller)
  }
}
