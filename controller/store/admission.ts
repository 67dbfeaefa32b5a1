/**
 * Owns who is let into an etcd that had not heard of them: hosts by their records, each with the
 * services it holds a certificate for, as the journal remembers them.
 */

import type { HostName, ServiceName } from '#shared/model/names.ts'
import { splitSpiffeId } from '#shared/model/spiffe-id.ts'
import { coversService } from '#shared/model/service-globs.ts'
import type { HostLedger } from '#controller/ca/host-ledger.ts'
import type { Journal } from '#controller/ca/journal.ts'
import type { HostAccess } from './host-access.ts'

/** What it leans on. */
export interface AdmissionParts {
  readonly hosts: Pick<HostLedger, 'readAll'>
  readonly journal: Journal
  readonly access: HostAccess
}

/** Lets hosts in: those that `isWanted` names. Answers how many, and how many ranges they may write. */
export async function admitKnownHosts(
  parts: AdmissionParts,
  isWanted: (host: HostName) => boolean,
): Promise<{ readonly hosts: number; readonly ranges: number }> {
  const { access } = parts
  const certified = await certifiedServices(parts.journal)
  let [hosts, ranges] = [0, 0]
  for (const { host, services } of await parts.hosts.readAll()) {
    if (!isWanted(host)) continue
    await access.admitHost(host, services)
    hosts += 1
    for (const service of certified.get(host) ?? []) {
      if (!coversService(services, service)) continue
      await access.allowService(host, service)
      ranges += 1
    }
  }
  return { hosts, ranges }
}

/** Services for which hosts hold a certificate that has not ended. */
async function certifiedServices(
  journal: Journal,
): Promise<ReadonlyMap<string, ReadonlySet<ServiceName>>> {
  const services = new Map<string, Set<ServiceName>>()
  const { entries } = await journal.list({ host: '', ended: false, limit: Infinity })
  for (const { subject, host } of entries) {
    const id = splitSpiffeId(subject)
    if (!id.ok || id.value.kind !== 'service' || host === '') continue
    const known = services.get(host) ?? new Set()
    services.set(host, known.add(id.value.name as ServiceName))
  }
  return services
}
