/** Owns who may call what of the API: hosts ask for certificates, operators operate. */

import type { HostName, Parsed } from '#shared/model/names.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { splitSpiffeId } from '#shared/model/spiffe-id.ts'
import type { Caller } from '#shared/rpc/api-service.ts'

/** The caller as a host, or why it is none. */
export function hostCaller(caller: Caller): Parsed<HostName> {
  const parts = caller.id === null ? null : splitSpiffeId(caller.id)
  return parts?.ok === true && parts.value.kind === 'host'
    ? { ok: true, value: must(parseHostName(parts.value.name)) }
    : { ok: false, problem: `only hosts may ask for this; the caller is ${nameOf(caller)}` }
}

/** The caller as an operator, or why it is none. */
export function operatorCaller(caller: Caller): Parsed<SpiffeId> {
  const parts = caller.id === null ? null : splitSpiffeId(caller.id)
  return caller.id !== null && parts?.ok === true && parts.value.kind === 'operator'
    ? { ok: true, value: caller.id }
    : {
        ok: false,
        problem: `only operators may do this; the caller is ${nameOf(caller)}. Use the operator credential, operator.json in the controller's state directory`,
      }
}

function nameOf(caller: Caller): string {
  return caller.id ?? 'unknown'
}
