/**
 * Owns the checks of what this host hears of the mesh: whether controller and store answer, how old its
 * view is, and for how long it could go on without them. Pure.
 */

import type { AgentFacts, Contact } from '#shared/model/admin.ts'
import { counted } from '#shared/model/counted.ts'
import { ago, bad, duration, list, ok, skipped, type Check, type Judgement } from './judgement.ts'

function contact(
  facts: AgentFacts,
  what: string,
  state: Contact,
  verdict: 'warning' | 'failed',
  fix: string,
): Judgement {
  switch (state.kind) {
    case 'up':
      return ok(
        state.atMs === undefined
          ? `${what} answers`
          : `${what} answered ${ago(facts, state.atMs)} ago`,
      )
    case 'unknown':
      return skipped(`${what} has not been asked yet`)
    case 'down':
      return bad(verdict, `${what}: away for ${ago(facts, state.sinceMs)}`, state.reason, fix)
  }
}

/** In the order they are shown. */
export const controlPlaneChecks: readonly Check[] = [
  {
    name: 'controller-reachable',
    judge: (facts) =>
      contact(
        facts,
        `controller ${facts.status.controller.address}`,
        facts.status.controller.contact,
        'warning',
        'start mesh-controller or open its port; traffic goes on until certificates end',
      ),
  },
  {
    name: 'outage-budget',
    judge: ({ status: { outageBudget, controller, trustDomain } }) => {
      if (outageBudget === null) {
        return skipped(
          `this host has no ${trustDomain === '' ? 'certificate' : 'view of the mesh'} yet`,
        )
      }
      const { ms, endsFirst } = outageBudget
      const away = controller.contact.kind === 'down'
      const fix = 'bring a controller back before then: see controller-reachable'
      if (ms === 0) {
        const finding = `the certificate of ${endsFirst} has ended`
        return bad('failed', finding, 'it was not renewed', 'see certificate-renewal')
      }
      if (!away) return ok(`could go on for ${duration(ms)} with controller and store away`)
      const cause = `the controller is away, and the certificate of ${endsFirst} ends then`
      return bad('warning', `goes on for ${duration(ms)} more`, cause, fix)
    },
  },
  {
    name: 'store-session',
    judge: (facts) =>
      contact(
        facts,
        'the store',
        facts.status.store,
        'warning',
        'bring the store back; the last view stays in use and health checks correct it',
      ),
  },
  {
    name: 'snapshot',
    judge: (facts) => {
      const { source, vouchedAtMs, revision, services, instances } = facts.status.snapshot
      if (source === 'none')
        return bad(
          'failed',
          'there is no view of the mesh',
          'the store has not been reached since the first start',
          'see store-session',
        )
      const words = `${counted(services, 'service')}, ${counted(instances, 'instance')} at revision ${revision}`
      return source === 'store'
        ? ok(words)
        : bad(
            'warning',
            `${words}, read from disk`,
            'the store has not been reached since this agent started' +
              (vouchedAtMs === 0
                ? ''
                : `; it vouched for this view ${ago(facts, vouchedAtMs)} ago`),
            'see store-session',
          )
    },
  },
  {
    name: 'store-records',
    judge: ({ status: { snapshot } }) =>
      snapshot.rejected === 0
        ? ok('every record of the store can be read')
        : bad(
            'warning',
            `${snapshot.rejected} records of the store were rejected`,
            list(snapshot.problems),
            'upgrade what is older, or delete what was put by hand (etcdctl del KEY)',
          ),
  },
  {
    name: 'hosts-kept',
    judge: ({ status: { snapshot } }) =>
      snapshot.hostsKept.length === 0
        ? ok('every host that answers is in the store')
        : bad(
            'warning',
            `${snapshot.hostsKept.length} hosts are kept that the store has lost sight of`,
            `their agents do not reach the store: ${list(snapshot.hostsKept)}`,
            'meshctl check on those hosts: see store-session there',
          ),
  },
]
