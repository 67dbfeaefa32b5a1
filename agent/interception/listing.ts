/**
 * Owns the reading of what stands in the kernel: `nft -j list table`, as far as we must know it to
 * tell whether our table is ours, whole and unchanged. Pure; a listing of another shape is foreign.
 */

import { noElements, type Elements } from './elements.ts'
import { setTypes, type SetName } from './ruleset.ts'

/** Our table as it stands. */
export interface Listing {
  readonly elements: Elements
  /** How many rules each chain has. */
  readonly rules: Readonly<Record<string, number>>
  /** Names of chains and sets that we never make. */
  readonly strangers: readonly string[]
}

type Json = Readonly<Record<string, unknown>>

/** Reads the output of `nft -j list table`. @throws SyntaxError where it is no JSON */
export function readListing(text: string, chains: readonly string[]): Listing {
  const elements = noElements()
  const rules: Record<string, number> = Object.fromEntries(chains.map((name) => [name, 0]))
  const strangers: string[] = []
  const { nftables = [] } = JSON.parse(text) as { readonly nftables?: readonly Json[] }
  for (const item of nftables) {
    const [kind = '', body = {}] = (Object.entries(item)[0] ?? []) as [string?, Json?]
    const name = nameOf(body['name'])
    switch (kind) {
      case 'set':
      case 'map':
        if (Object.hasOwn(setTypes, name))
          fill(elements[name as SetName], body['elem'], name as SetName)
        else strangers.push(name)
        break
      case 'chain':
        if (!Object.hasOwn(rules, name)) strangers.push(name)
        break
      case 'rule': {
        const chain = nameOf(body['chain'])
        rules[chain] = (rules[chain] ?? 0) + 1
        break
      }
      // The table itself, counters, and what later versions of nft may add.
      default:
    }
  }
  return { elements, rules, strangers }
}

/** The packets each counter has seen, by the counter's name. */
export function readCounters(text: string): ReadonlyMap<string, number> {
  const { nftables = [] } = JSON.parse(text) as { readonly nftables?: readonly Json[] }
  const counters = nftables.flatMap((item) => {
    const counter = item['counter'] as Json | undefined
    return counter === undefined
      ? []
      : [[nameOf(counter['name']), Number(counter['packets'])] as const]
  })
  return new Map(counters)
}

function fill(set: Map<string, string>, elements: unknown, name: SetName): void {
  if (!Array.isArray(elements)) return
  for (const element of elements as readonly unknown[]) {
    const [key, value] = Array.isArray(element) ? (element as unknown[]) : [element, '']
    // nft lists protocols by number; there is one in our table.
    set.set(name === 'unknown_callers' && key === 6 ? 'tcp' : word(key), word(value))
  }
}

/** A key or value in the spelling of `elements.ts`. */
function word(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  const { concat } = (value ?? {}) as { readonly concat?: readonly unknown[] }
  return concat === undefined ? JSON.stringify(value) : concat.map(String).join(' . ')
}

function nameOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
