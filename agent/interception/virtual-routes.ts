/**
 * Owns the routes that make virtual IPs this host's own, and what connections to them come from: a
 * loopback address while they end on this host. Once the kernel leads them to other hosts a route names
 * no source at all, and each connection gets the address of the network that it leaves by (`ruleset.ts`).
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

/** See the header. */
export class VirtualRoutes {
  readonly #commands: Pick<KernelCommands, 'ip'>
  readonly #routes: readonly Route[]
  /** What each range comes from, as it was made last; null: what the kernel chooses. */
  readonly #sources = new Map<string, string | null>()

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
      const source = leadsAway(family, elements) ? null : loopback
      if (!isSure && this.#sources.get(range) === source) continue
      const from = source === null ? [] : ['src', source]
      await this.#commands.ip(family, 'route', 'replace', 'local', range, 'dev', 'lo', ...from)
      this.#sources.set(range, source)
    }
  }

  /** The range whose route is not as it was made last, or ''. */
  async missing(): Promise<string> {
    for (const { family, range } of this.#routes) {
      const shown = await this.#commands.ip(family, 'route', 'show', 'table', 'local', range)
      if (shown.trim() === '') return range
      const source = this.#sources.get(range)
      if (source === undefined) continue
      const stands = /\bsrc (\S+)/.exec(shown)?.[1] ?? null
      if (stands !== source) return range
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
}

/** Whether a virtual IP leads to another host, which could not answer a loopback address. */
function leadsAway(family: '-4' | '-6', elements: Elements): boolean {
  const is4 = family === '-4'
  const led = elements[is4 ? 'destinations4' : 'destinations6']
  return elements[is4 ? 'plain4' : 'plain6']
    .entries()
    .some(([key, to]) => !led.has(key) && !to.startsWith(is4 ? '127.' : '::1 '))
}
