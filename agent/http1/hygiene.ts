/**
 * Owns which field lines may pass: hop-by-hop ones never do (RFC 9110 §7.6.1), identity and
 * forwarding ones only where the mesh itself has set them. Pure tables; one look-up a field.
 */

import { begins, isPlainlySpelt, NameShelf } from './name-shelf.ts'

/** Which message a field stands in, and who sent it. */
export type Origin = 'caller-request' | 'peer-request' | 'service-response' | 'peer-response'

/** What is known of a field by its name. */
export interface FieldRule {
  /** In lower case; empty for a name that means nothing here, or not what it looks like. */
  readonly name: string
  /** Where it may pass; for `passes`. */
  readonly verdict: number
}

const bits: Readonly<Record<Origin, number>> = {
  'caller-request': 1,
  'peer-request': 2,
  'service-response': 4,
  'peer-response': 8,
}
const anywhere = 15
const responses = bits['service-response'] | bits['peer-response']

/** Ends at this hop: the mesh frames and connects anew. */
const hop = 0
/** Says on what way a request came: believed of peer agents alone. */
const forwarding = responses | bits['peer-request']
/** Says who the caller is, or by which name its request is told from others: set by each agent. */
const identity = responses

const verdicts: readonly (readonly [string, number])[] = [
  // Written anew from the authority.
  ['host', responses],
  ['connection', hop],
  ['keep-alive', hop],
  ['proxy-connection', hop],
  ['proxy-authenticate', hop],
  ['proxy-authorization', hop],
  ['te', hop],
  ['trailer', hop],
  ['transfer-encoding', hop],
  ['upgrade', hop],
  ['content-length', hop],
  ['http2-settings', hop],
  ['forwarded', forwarding],
  ['x-forwarded-for', forwarding],
  ['x-forwarded-proto', forwarding],
  ['x-forwarded-host', forwarding],
  ['x-forwarded-port', forwarding],
  ['x-real-ip', forwarding],
  ['x-forwarded-client-cert', identity],
  ['x-request-id', identity],
  // The reason of a refusal; of the other x-mesh-* fields none passes.
  ['x-mesh-reason', bits['peer-response']],
  // Pass, but say something about their message.
  ['expect', anywhere],
  ['authorization', anywhere],
  ['www-authenticate', anywhere],
]

/** A rule, and what becomes of a name that services may take for its own. */
interface Shelved {
  readonly rule: FieldRule
  readonly disguised: FieldRule
}

const meshPrefix = 'x-mesh-'
const letterX = 0x78

/** For any field that nothing is known of. */
export const plainRule: FieldRule = { name: '', verdict: anywhere }
const refusedRule: FieldRule = { name: '', verdict: 0 }

const shelf = new NameShelf<Shelved>(
  verdicts.map(([name, verdict]) => [
    name,
    { rule: { name, verdict }, disguised: disguiseOf(name, verdict) },
  ]),
)

function disguiseOf(name: string, verdict: number): FieldRule {
  if (verdict === anywhere) return plainRule
  return name.startsWith(meshPrefix) ? refusedRule : { name: '', verdict: verdict & responses }
}

/**
 * What is known of the field whose name stands from `start` to before `end`. Names that services
 * may take for one another, such as with `_` for `-`, are not told apart.
 */
export function ruleFor(text: string, start: number, end: number): FieldRule {
  const found = shelf.find(text, start, end)
  if (found !== undefined) {
    return isPlainlySpelt(text, start, end) ? found.rule : found.disguised
  }
  const isMesh =
    (text.charCodeAt(start) | 0x20) === letterX &&
    end - start >= meshPrefix.length &&
    begins(text, start, meshPrefix)
  return isMesh ? refusedRule : plainRule
}

/** Whether a field with that verdict goes on in a message of that origin. */
export function passes(verdict: number, origin: Origin): boolean {
  return (verdict & bits[origin]) !== 0
}

/** Whether a trailer may go on: nothing that frames, routes, authenticates or identifies. */
export function trailerPasses(name: string): boolean {
  const { verdict } = ruleFor(name, 0, name.length)
  return (
    passes(verdict, 'caller-request') && forbiddenTrailers.find(name, 0, name.length) === undefined
  )
}

const forbiddenTrailers = new NameShelf<true>(
  `authorization cookie set-cookie content-encoding content-type content-range cache-control expect
  max-forwards range age expires date location retry-after vary www-authenticate`
    .split(/\s+/)
    .map((name) => [name, true]),
)
