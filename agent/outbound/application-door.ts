/**
 * Owns the way of a captured connection to `agent.mesh`: to the control process, with one line before
 * it that says whose it is. What is asked there is none of a worker's business.
 */

import { connect, type Socket } from 'node:net'
import type { ServiceName } from '#shared/model/names.ts'

/** Settings of the door. */
export interface ApplicationDoorSettings {
  readonly socketPath: string
  /** Most connections of one worker at once; the next is refused. @default 256, as many as the far end takes */
  readonly most?: number
  /** Most of them by one caller, lest it shut out the others. @default 32 */
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
      const whose = isOneTooMany ? ' by one service' : ''
      socket.on('error', () => {})
      socket.end(unavailable(`too many connections to the API for applications${whose}`))
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
      else socket.end(unavailable('the agent is being restarted'))
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

function unavailable(message: string): string {
  const body = `${JSON.stringify({ error: { code: 'unavailable', message, hint: 'try again' } })}\n`
  const fields = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`
  return `HTTP/1.1 503 Service Unavailable\r\n${fields}\r\nretry-after: 1\r\nconnection: close\r\n\r\n${body}`
}
