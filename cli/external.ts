/** Owns `meshctl external`: services outside the mesh that programs of this host call through it. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { ExternalReport } from '#shared/model/admin-services.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { clean, pairs, table } from './output/table.ts'

interface Parts {
  readonly agent: AdminSocket
  readonly printer: Printer
}

/** Lists them, or tells all of one; fails where one is at no address. @throws MeshError `not-external` */
export async function external({ agent, printer }: Parts, service?: string): Promise<number> {
  const reports = await agent.ask('external')
  const name = service?.replace(/\.mesh$/, '')
  const one = reports.find((report) => report.service === name)
  if (name !== undefined && one === undefined) {
    throw new MeshError(`no manifest of this host says where ${name} is outside the mesh`, {
      code: 'not-external',
      hint: 'see meshctl external, meshctl services and meshctl manifest status',
    })
  }
  if (one === undefined) printer.result(reports, () => list(reports))
  else printer.result(one, () => details(one))
  const isIn = ({ endpoints }: ExternalReport): boolean => endpoints.length > 0
  return (one === undefined ? reports : [one]).every(isIn) ? exitCodes.ok : exitCodes.notInOrder
}

function list(reports: readonly ExternalReport[]): string {
  return table(
    ['SERVICE', 'PROTOCOL', 'ADDRESSES', 'PORT', 'TLS', 'CALLED AT', 'PROBLEM'],
    reports.map(({ service, protocol, addresses, port, tls, endpoints, problems }) => [
      service,
      protocol,
      addresses.join(),
      String(port),
      tls === 'originate' ? 'by the agent' : 'as it comes',
      endpoints.map(({ address }) => address).join() || 'nowhere',
      problems[0] ?? '',
    ]),
    'no manifest of this host names a service outside the mesh ("external")',
  )
}

function details(report: ExternalReport): string {
  const { service, file, protocol, port, tls, addresses, intercept, endpoints, problems } = report
  return pairs([
    ['service', `${clean(service)}.mesh`],
    ['manifest', clean(file)],
    ['carried as', tls === 'originate' ? `${protocol}, over TLS of the agent` : protocol],
    ['addresses', `${addresses.map(clean).join(', ')}, port ${port}`],
    [
      'called at',
      endpoints
        .map(({ address, said }) => (address === said ? address : `${address} (${clean(said)})`))
        .join(', ') || 'nowhere',
    ],
    ['captured too', intercept.map(clean).join(', ') || 'no real address'],
    ['problems', problems.map(clean).join('; ') || 'none'],
  ])
}
