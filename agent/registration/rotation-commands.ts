/**
 * Owns the command by which operators take services of this host out of rotation and put them back.
 * A name is that of a local service, else that of this host, unless the host is expressly meant.
 */

import type { RotationWish } from '#shared/model/admin-wishes.ts'
import { parseServiceName, type HostName, type ServiceName } from '#shared/model/names.ts'
import type { Withdrawals, WithdrawalTarget } from './withdrawals.ts'

/** What the command leans on. */
export interface RotationParts {
  readonly withdrawals: Pick<Withdrawals, 'set' | 'of' | 'ofTarget'>
  /** The services of this host. */
  readonly served: () => readonly ServiceName[]
}

/** What became of the wish. */
export type RotationAnswer =
  | { readonly kind: 'done'; readonly value: { readonly services: readonly string[] } }
  | {
      readonly kind: 'refused'
      readonly code: string
      readonly problem: string
      readonly hint: string
    }

const longestReason = 256

/** Carries out a `RotationWish` as it was posted; answers which services it concerns. */
export async function setRotation(
  { withdrawals, served }: RotationParts,
  { host }: { readonly host: HostName },
  input: unknown,
): Promise<RotationAnswer> {
  if (!isWish(input)) {
    const problem = 'expected {"target", "kind"?: "host", "withdrawn": true | false, "reason"}'
    return { kind: 'refused', code: 'bad-input', problem, hint: '' }
  }
  const services = served()
  const target = targetOf(input, services, host)
  if (target === null) {
    return {
      kind: 'refused',
      code: 'not-here',
      problem: `${JSON.stringify(input.target.slice(0, 100))} is neither a service of this host nor the host itself (${host})`,
      hint: 'meshctl manifest status lists the services',
    }
  }
  const concerned = target.kind === 'host' ? services : [target.service]
  const reason = input.reason.slice(0, longestReason)
  if (!input.withdrawn && reason !== '' && withdrawals.ofTarget(target)?.reason !== reason) {
    // Somebody else has taken it out, and will put it back; or nobody has.
    return { kind: 'done', value: { services: [] } }
  }
  await withdrawals.set(target, input.withdrawn, reason)
  if (!input.withdrawn && concerned.some((service) => withdrawals.of(service) !== null)) {
    const still = concerned.filter((service) => withdrawals.of(service) !== null)
    return {
      kind: 'refused',
      code: 'still-out',
      problem: `still out of rotation: ${still.join(', ')}`,
      hint:
        target.kind === 'host'
          ? 'these were drained by themselves: meshctl undrain SERVICE'
          : 'the whole host is out: meshctl maintenance off',
    }
  }
  return { kind: 'done', value: { services: concerned } }
}

function targetOf(
  { target: name, kind }: RotationWish,
  services: readonly ServiceName[],
  host: HostName,
): WithdrawalTarget | null {
  const service = parseServiceName(name)
  if (kind === undefined && service.ok && services.includes(service.value)) {
    return { kind: 'service', service: service.value }
  }
  return name === host ? { kind: 'host' } : null
}

function isWish(input: unknown): input is RotationWish {
  if (typeof input !== 'object' || input === null) return false
  const { target, kind, withdrawn, reason } = input as Readonly<Record<string, unknown>>
  const isKnownKind = kind === undefined || kind === 'host'
  return (
    isKnownKind &&
    typeof target === 'string' &&
    typeof withdrawn === 'boolean' &&
    typeof reason === 'string'
  )
}
