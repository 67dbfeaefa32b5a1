/** Owns the reading of a `WhyQuestion` as it was posted. Pure. */

import { parseServiceName, type Parsed, type ServiceName } from '#shared/model/names.ts'
import { parseTarget, type Target } from '#shared/model/target.ts'

/** A question that makes sense. */
export interface Question {
  readonly target: Target
  /** Null asks for the host itself. */
  readonly caller: ServiceName | null
  readonly request: { readonly method: string; readonly path: string } | null
}

/** Methods that change nothing (RFC 9110 §9.2.1): a diagnosis must not. */
const safe: ReadonlySet<unknown> = new Set(['GET', 'HEAD', 'OPTIONS'])
const pathShape = /^\/[\x21-\x7e]{0,2047}$/

/** Reads it. */
export function readQuestion(input: unknown): Parsed<Question> {
  if (typeof input !== 'object' || input === null) {
    return wrong('expected {"service", "caller"?, "request"?: {"method", "path"}}')
  }
  const { service: named, caller: by, request } = input as Readonly<Record<string, unknown>>
  if (typeof named !== 'string') return wrong('name a service')
  const target = parseTarget(named.replace(/\.mesh\.?$/, ''))
  if (!target.ok) return target
  if (by !== undefined && typeof by !== 'string')
    return wrong('the caller is the name of a service')
  const caller = by === undefined ? null : parseServiceName(by)
  if (caller !== null && !caller.ok) return caller
  const read = request === undefined ? null : readRequest(request)
  if (read !== null && !read.ok) return read
  return {
    ok: true,
    value: { target: target.value, caller: caller?.value ?? null, request: read?.value ?? null },
  }
}

function readRequest(input: unknown): Parsed<NonNullable<Question['request']>> {
  const { method, path } = (input ?? {}) as Readonly<Record<string, unknown>>
  if (typeof method !== 'string' || !safe.has(method)) {
    return wrong('only GET, HEAD and OPTIONS are sent: a diagnosis must change nothing')
  }
  if (typeof path !== 'string' || !pathShape.test(path)) {
    return wrong('a path begins with / and has no spaces, 2,048 characters at most')
  }
  return { ok: true, value: { method, path } }
}

function wrong(problem: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem }
}
