/**
 * Owns the routes that make virtual IPs this host's own, and the address that connections to them come
 * from: a loopback one while they end on this host, one of the host's own once the kernel leads them to
 * others, which could not answer otherwise.
 */

import { virtualRange4 } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import type { Elements } from './elements.ts'

/** The ranges virtual IPs are of. */
export function virtualRanges(range6: string | null): readonly string[] {
  return range6 === null ? [virtualRange4] : [virtualRange4, range6]
}

interface Route {
  readonly family: '-4' | '-6'
  readonly range: string
  readonly loopback: string
}

/** More instances than this are not asked for the way to them. */
const mostAsked = 8

/** See the header. */
export class VirtualRoutes {
  readonly #commands: Pick<KernelCommands, 'ip'>
  readonly #routes: readonly Route[]
  /** The source each range was given last. */
  readonly #sources = new Map<string, string>()

  /** @param range6 - null where the host has no IPv6 */
  constructor(commands: Pick<KernelCommands, 'ip'>, range6: string | null) {
    this.#commands = commands
    const four: Route = { family: '-4', range: virtualRange4, loopback: '127.0.0.1' }
    this.#routes =
      range6 === null ? [four] : [four, { family: '-6', range: range6, loopback: '::1' }]
  }

  /** Makes them as a table's elements want them; `isSure` makes them even if they should stand. */
  async lead(elements: Elements, isSure = false): Promise<void> {
    for (const { family, range, loopback } of this.#routes) {
      const source = (await this.#sourceFor(family, elements)) ?? loopback
      if (!isSure && this.#sources.get(range) === source) continue
      const words = ['route', 'replace', 'local', range, 'dev', 'lo', 'src', source]
      await this.#commands.ip(family, ...words)
      this.#sources.set(range, source)
    }
  }

  /** The range whose route is not as it was made last, or ''. */
  async missing(): Promise<string> {
    for (const { family, range } of this.#routes) {
      const shown = await this.#commands.ip(family, 'route', 'show', 'table', 'local', range)
      const source = this.#sources.get(range)
      if (shown.trim() === '') return range
      if (source !== undefined && !` ${shown.trim()} `.includes(` src ${source} `)) return range
    }
    return ''
  }

  /** Takes them away, as far as they are there. */
  async remove(): Promise<void> {
    this.#sources.clear()
    for (const { family, range } of this.#routes) {
      await this.#commands.ip(family, 'route', 'del', 'local', range, 'dev', 'lo').catch(() => '')
    }
  }

  /** The host's address towards others that stand in; null where none does. */
  async #sourceFor(family: '-4' | '-6', elements: Elements): Promise<string | null> {
    const is4 = family === '-4'
    const led = elements[is4 ? 'destinations4' : 'destinations6']
    const standIns = elements[is4 ? 'plain4' : 'plain6']
    const asked = new Set<string>()
    for (const [key, to] of standIns) {
      const address = to.split(' ', 1)[0] ?? ''
      if (led.has(key) || address.startsWith('127.') || asked.has(address)) continue
      if (asked.size >= mostAsked) break
      asked.add(address)
      const shown = await this.#commands.ip(family, 'route', 'get', address).catch(() => '')
      const source = /\bsrc (\S+)/.exec(shown)?.[1]
      if (source !== undefined && !shown.startsWith('local ')) return source
    }
    return null
  }
}
