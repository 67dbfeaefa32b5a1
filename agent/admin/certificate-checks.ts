/** Owns the checks of identities: whether this host holds what it needs, for how long, and what refused it. Pure. */

import type { AgentFacts, CertificateReport } from '#shared/model/admin.ts'
import { newToken, remedyOf } from './certificate-remedies.ts'
import { bad, duration, list, ok, skipped, type Check, type Judgement } from './judgement.ts'

/** Certificates begin this much before they are made, for clocks that are behind. */
const backdatedMs = 60_000

function remedies(facts: AgentFacts, some: readonly CertificateReport[]): string {
  return list([...new Set(some.map((one) => remedyOf(facts.status.host, one)))])
}

function expiry(facts: AgentFacts, kind: 'host' | 'service'): Judgement {
  const mine = facts.certificates.filter(({ identity }) => identity.includes(`/${kind}/`))
  if (mine.length === 0) return skipped(`this host holds no ${kind} certificate`)
  const { nowMs } = facts.status
  const gone = mine.filter(({ notAfterMs }) => notAfterMs <= nowMs)
  // Renewal begins at half life; past three quarters it has failed for a quarter of it.
  const late = mine.filter(
    ({ notBeforeMs, notAfterMs }) =>
      notAfterMs - nowMs < (notAfterMs - notBeforeMs - backdatedMs) / 4,
  )
  const words = (some: typeof mine): string =>
    list(some.map(({ identity, problem }) => `${identity}${problem && `: ${problem}`}`))
  if (gone.length > 0) {
    const finding = `${gone.length} of ${mine.length} missing or expired`
    const isAway = facts.status.controller.contact.kind === 'down'
    const token = `${isAway ? 'see controller-reachable; then ' : ''}${newToken(facts.status.host)}`
    const mend = kind === 'host' ? token : remedies(facts, gone)
    return bad('failed', finding, words(gone), mend)
  }
  if (late.length > 0)
    return bad(
      'warning',
      `${late.length} of ${mine.length} overdue for renewal`,
      words(late),
      remedies(facts, late),
    )
  const next = Math.min(...mine.map(({ notAfterMs }) => notAfterMs)) - nowMs
  return ok(`${mine.length} valid, the first for ${duration(next)}`)
}

/** In the order they are shown. */
export const certificateChecks: readonly Check[] = [
  {
    name: 'host-enrolled',
    judge: ({ certificates, status }) => {
      const own = certificates.find(({ identity }) => identity.includes('/host/'))
      return own !== undefined && own.serial !== ''
        ? ok(`this host is ${own.identity}`)
        : bad(
            'failed',
            `host ${status.host} holds no credential`,
            own?.problem || 'it has not enrolled',
            newToken(status.host),
          )
    },
  },
  {
    name: 'host-certificate',
    judge: (facts) => expiry(facts, 'host'),
  },
  {
    name: 'service-certificates',
    judge: (facts) => expiry(facts, 'service'),
  },
  {
    name: 'certificate-renewal',
    judge: (facts) => {
      const { certificates } = facts
      const stuck = certificates.filter(({ problem }) => problem !== '')
      return stuck.length === 0
        ? ok('no certificate was refused')
        : bad(
            'warning',
            `${stuck.length} of ${certificates.length} could not be issued or renewed`,
            list(stuck.map(({ identity, problem }) => `${identity}: ${problem}`)),
            remedies(facts, stuck),
          )
    },
  },
  {
    name: 'clock',
    judge: ({ certificates, status }) => {
      const early = certificates.filter(
        ({ serial, notBeforeMs }) => serial !== '' && notBeforeMs > status.nowMs,
      )
      return early.length === 0
        ? ok('the clock agrees with every certificate')
        : bad(
            'failed',
            `${early.length} certificates begin in the future`,
            'this host’s clock is behind the controller’s',
            'synchronise the clock (timedatectl set-ntp true)',
          )
    },
  },
]
