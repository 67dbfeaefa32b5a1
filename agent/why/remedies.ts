/** Owns what to do about each reason for which a path does not open. Pure. */

import type { Reason } from '#shared/model/reason.ts'

/** Where the path leads. */
export interface Whither {
  readonly service: string
  readonly host: string
  readonly isLocal: boolean
}

type Remedy = (service: string, host: string, there: string) => string

const remedies: Readonly<Partial<Record<Reason, Remedy>>> = {
  'policy-denied': (service, _host, there) =>
    `name the caller in "allow" of the manifest of ${service}, or in the policy file named above; ` +
    `${there}: meshctl authz list`,
  'no-credential': () => 'meshctl check tells why there is no certificate',
  'tunnel-failed': (_service, host, there) =>
    `is ${host} up, does its agent run (${there}: meshctl status), and does no firewall stop its tunnel port?`,
  'tunnel-refused-identity': (_service, host) =>
    `something else answers at the address of ${host}, or one side lags behind a change of the root: ` +
    'meshctl check on both hosts, and meshctl ca rotate --status',
  'instance-refused': (service, _host, there) =>
    `is ${service} running ${there}, on the port of its manifest?`,
  'external-failed': (service) =>
    `meshctl external ${service}; is it there, and are its names and roots right?`,
  draining: (_service, _host, there) => `it is leaving; ${there}: meshctl manifest status`,
  overloaded: (_service, _host, there) =>
    `add instances, or raise the limit that is named above ${there}`,
}

/** One sentence an operator can act on. */
export function remedyOf(reason: Reason, { service, host, isLocal }: Whither): string {
  const there = isLocal ? 'here' : `on ${host}`
  const remedy = remedies[reason]
  return remedy === undefined
    ? `docs/reasons.md says what ${reason} means; ${there}: meshctl check`
    : remedy(service, host, there)
}
