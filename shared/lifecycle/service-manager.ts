/**
 * Owns what a program tells systemd about itself (sd_notify(3)), and is the home of node:ffi: Node
 * has no unix datagram sockets. Without a service manager it is silent. It decides nothing.
 */

import type { Clock, Timer } from './clock.ts'

/** Says how a program fares. */
export interface ServiceManager {
  /** It serves, at first or after a reload; from now on the watchdog is fed. */
  ready(): void
  /** It reads its settings anew, since that moment of CLOCK_MONOTONIC in microseconds; then it is ready again. */
  reloading(monotonicMicros: bigint): void
  /** One line for `systemctl status`. */
  status(line: string): void
  /** It is on its way out. */
  stopping(): void
}

/** What a program needs of its environment. */
export interface ServiceManagerSettings {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Of this process; the watchdog may be meant for another. */
  readonly pid: number
}

type Send = (message: string) => void

/**
 * The service manager this program was started by. Anything wrong with it is told once, to `warn`,
 * and stops nothing.
 */
export async function findServiceManager(
  parts: { readonly clock: Clock; readonly warn: (problem: string) => void },
  settings: ServiceManagerSettings,
): Promise<ServiceManager> {
  const send = await findSend(parts.warn, settings.environment)
  return new Notifier({ clock: parts.clock, send }, { watchdogMs: watchdogMs(settings) })
}

/** Tells through `send`; the watchdog is fed by the event loop, so that one that hangs starves it. */
export class Notifier implements ServiceManager {
  readonly #clock: Clock
  readonly #send: Send
  readonly #watchdogMs: number
  #feeding: Timer | null = null
  #isReady = false
  #status = ''

  /** @param settings - `watchdogMs` is how long systemd waits for a sign of life; 0: for ever */
  constructor(
    parts: { readonly clock: Clock; readonly send: Send },
    settings: { readonly watchdogMs: number },
  ) {
    this.#clock = parts.clock
    this.#send = parts.send
    this.#watchdogMs = settings.watchdogMs
  }

  ready(): void {
    if (this.#isReady) return
    this.#isReady = true
    this.#send('READY=1')
    if (this.#watchdogMs === 0 || this.#feeding !== null) return
    this.#feeding = this.#clock.every(this.#watchdogMs / 3, () => this.#send('WATCHDOG=1'))
  }

  reloading(monotonicMicros: bigint): void {
    this.#isReady = false
    this.#send(`RELOADING=1\nMONOTONIC_USEC=${monotonicMicros}`)
  }

  status(line: string): void {
    if (line === this.#status) return
    this.#status = line
    this.#send(`STATUS=${line.replaceAll('\n', ' ')}`)
  }

  stopping(): void {
    this.#send('STOPPING=1')
  }
}

/** How long systemd waits for a sign of life of this process (sd_watchdog_enabled(3)); 0: for ever. */
export function watchdogMs({ environment, pid }: ServiceManagerSettings): number {
  const wanted = environment['WATCHDOG_PID']
  if (wanted !== undefined && wanted !== String(pid)) return 0
  const micros = Number(environment['WATCHDOG_USEC'] ?? 0)
  return Number.isSafeInteger(micros) && micros > 0 ? micros / 1000 : 0
}

async function findSend(
  warn: (problem: string) => void,
  environment: ServiceManagerSettings['environment'],
): Promise<Send> {
  if (environment['NOTIFY_SOCKET'] === undefined) return () => {}
  try {
    const { dlopen } = await import('node:ffi')
    const { functions } = dlopen('libsystemd.so.0', {
      sd_notify: { arguments: ['i32', 'string'], return: 'i32' },
    })
    return (message) => void functions.sd_notify(0, message)
  } catch (error) {
    warn(`systemd hears nothing of this program: ${(error as Error).message}`)
    return () => {}
  }
}
