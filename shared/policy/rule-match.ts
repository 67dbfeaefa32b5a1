/**
 * Owns whether a rule fits a call, condition by condition. Rules that deny fit broadly and rules that
 * allow narrowly, because services read names, letters and repeated fields more or less forgivingly.
 * Pure; allocates nothing for requests that are spelled plainly.
 */

import type { Port } from '#shared/model/names.ts'
import type { HeaderCondition, PolicyRule, ValuePattern } from '#shared/model/policy.ts'
import type { RequestFacts } from '#shared/model/request.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { fitsIdentity } from './identity-pattern.ts'
import { fitsPath } from './path-pattern.ts'

/** What a rule does. */
export type Effect = 'deny' | 'allow'

/** A condition of a rule. */
export type Condition = 'from' | 'ports' | 'methods' | 'paths' | 'hosts' | 'headers'

/** Whether a rule fits. */
export type Fit =
  | { readonly kind: 'fits' }
  /** One condition surely does not. */
  | { readonly kind: 'misses'; readonly condition: Condition }
  /** It depends on how the request is read. */
  | { readonly kind: 'ambiguous'; readonly problem: string }

const fits: Fit = { kind: 'fits' }
const misses = {
  from: { kind: 'misses', condition: 'from' },
  ports: { kind: 'misses', condition: 'ports' },
  methods: { kind: 'misses', condition: 'methods' },
  paths: { kind: 'misses', condition: 'paths' },
  hosts: { kind: 'misses', condition: 'hosts' },
  headers: { kind: 'misses', condition: 'headers' },
} as const satisfies Record<Condition, Fit>

/** Whether a rule looks into requests. */
export function looksInside({ methods, paths, hosts, headers }: PolicyRule): boolean {
  return methods.length + paths.length + hosts.length + headers.length > 0
}

/** Whether a rule fits a connection. The rule's patterns are absolute. */
export function fitCall(rule: PolicyRule, source: SpiffeId | null, port: Port): Fit {
  const { from, ports } = rule
  if (from.length > 0 && !from.some((pattern) => fitsIdentity(pattern, source))) return misses.from
  return ports.length > 0 && !ports.includes(port) ? misses.ports : fits
}

/**
 * Whether a rule fits a request. What surely does not fit is no matter of spelling any more, so that
 * odd requests are ambiguous only to the rules that are about them. Paths of rules that deny are
 * folded.
 */
export function fitRequest(rule: PolicyRule, effect: Effect, request: RequestFacts): Fit {
  const { methods, paths, hosts, headers } = rule
  let problem = ''
  if (methods.length > 0) {
    const override = overrideOf(request)
    if (override !== '') problem = `method: ${override} may replace it`
    else if (!fitsMethod(methods, effect, request.method)) return misses.methods
  }
  if (paths.length > 0) {
    const { path } = request
    if (request.pathOverride !== '') {
      problem = `path: the field ${request.pathOverride} may replace it`
    } else if (path.problem !== '') problem = `path: ${path.problem}`
    else if (!anyPath(paths, effect === 'deny' ? path.folded : path.text)) return misses.paths
  }
  if (hosts.length > 0) {
    if (request.host === '') problem = 'host: it names none'
    else if (!fitsHost(hosts, request.host)) return misses.hosts
  }
  for (const condition of headers) {
    const doubt = fieldProblem(condition.name, request)
    if (doubt !== '') problem = `fields: ${doubt}`
    else if (!fitsHeader(condition, effect, request)) return misses.headers
  }
  return problem === '' ? fits : { kind: 'ambiguous', problem }
}

function fitsMethod(methods: readonly string[], effect: Effect, method: string): boolean {
  const name = effect === 'deny' ? method.toUpperCase() : method
  // RFC 9110 §9.3.2: a HEAD is a GET without the content, and served by the same code.
  return methods.includes(name) || (name === 'HEAD' && methods.includes('GET'))
}

function anyPath(paths: PolicyRule['paths'], path: string): boolean {
  for (const pattern of paths) if (fitsPath(pattern, path)) return true
  return false
}

function fitsHost(hosts: readonly string[], host: string): boolean {
  for (const one of hosts) {
    if (one.startsWith('*.') ? host.endsWith(one.slice(1)) : host === one) return true
  }
  return false
}

function fitsHeader(
  { name, values }: HeaderCondition,
  effect: Effect,
  { lines }: RequestFacts,
): boolean {
  let count = 0
  let found = false
  for (const line of lines) {
    if (line[0] !== name) continue
    count++
    if (effect === 'deny' ? fitsBroadly(values, line[1]) : fitsValue(values, line[1])) found = true
  }
  return effect === 'deny' ? found : found && count === 1
}

function fitsValue(values: readonly ValuePattern[], value: string): boolean {
  for (const { kind, text } of values) {
    if (kind === 'exact' ? value === text : value.startsWith(text)) return true
  }
  return false
}

/** Whether the value, or an item of it if it is a list, fits without regard to case. */
function fitsBroadly(values: readonly ValuePattern[], value: string): boolean {
  return [value, ...value.split(',')].some((item) => {
    const folded = item.trim().toLowerCase()
    return values.some(({ kind, text }) =>
      kind === 'exact' ? folded === text.toLowerCase() : folded.startsWith(text.toLowerCase()),
    )
  })
}

/** By what some frameworks replace the method of a request. */
function overrideOf({ methodOverride, query }: RequestFacts): string {
  if (methodOverride !== '') return `the field ${methodOverride}`
  if (!/[_%]/.test(query)) return ''
  const names = query.split(/[&;]/).map((pair) => decodedName(pair.split('=', 1)[0] ?? ''))
  return names.some((name) => name.startsWith('_method')) ? 'the parameter _method' : ''
}

function decodedName(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' ')).trim().toLowerCase()
  } catch {
    return text.replaceAll(/%5f/gi, '_').toLowerCase()
  }
}

/** Gateways such as CGI make `_` and `-` the same; and what `Connection` names goes no further. */
function fieldProblem(name: string, { lines, nominated }: RequestFacts): string {
  if (nominated?.has(name) === true) return `Connection takes ${name} out`
  for (const [other] of lines) {
    if (other !== name && other.replaceAll('_', '-') === name.replaceAll('_', '-')) {
      return `${other} resembles ${name}`
    }
  }
  return ''
}
