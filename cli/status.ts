/** Owns `meshctl status`: what this host's agent is and how it fares. */

import type { CaptureReport } from '#shared/model/admin-capture.ts'
import type { Contact, StatusReport } from '#shared/model/admin.ts'
import { counted } from '#shared/model/counted.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { duration, pairs } from './output/table.ts'

/** Prints the status; succeeds when the agent is ready. */
export async function status(parts: {
  readonly agent: AdminSocket
  readonly printer: Printer
}): Promise<number> {
  const report = await parts.agent.ask('status')
  parts.printer.result(report, () => render(report))
  return report.ready ? exitCodes.ok : exitCodes.notInOrder
}

function render(report: StatusReport): string {
  const { snapshot, controller, workers, nowMs } = report
  const { vouchedAtMs } = snapshot
  const isOld = vouchedAtMs > 0 && report.store.kind !== 'up'
  const age = isOld ? `, vouched for ${duration(nowMs - vouchedAtMs)} ago` : ''
  return pairs([
    ['host', `${report.host} (${report.address}${report.zone && `, zone ${report.zone}`})`],
    ...(report.maintenance === null
      ? []
      : ([['rotation', `out: ${report.maintenance.reason || 'maintenance'}`]] as const)),
    ['mesh', report.trustDomain || 'not enrolled'],
    ['ready', report.ready ? 'yes' : `no, waits for ${report.waitsFor}`],
    [
      'agent',
      `version ${report.version}, pid ${report.pid}, up ${duration(nowMs - report.startedAtMs)}`,
    ],
    ['controller', `${controller.address} ${words(controller.contact, nowMs)}`],
    ['store', words(report.store, nowMs)],
    ['alone', alone(report)],
    [
      'view',
      `revision ${snapshot.revision} from ${snapshot.source}${age}: ${counted(snapshot.services, 'service')}, ` +
        `${counted(snapshot.instances, 'instance')}, ${counted(snapshot.hosts, 'host')}` +
        (snapshot.of === 'services-in-use' ? '; discovered on demand: services in use only' : ''),
    ],
    ['capture', captured(report.capture)],
    ...(workers.length === report.workersWanted
      ? []
      : [['workers', `${workers.length} of ${report.workersWanted} connected`] as const]),
    ...workers.map((worker): [string, string] => {
      const open = worker.listeners.filter(({ problem }) => problem === '').length
      return [
        `worker ${worker.generation}-${worker.index}`,
        `pid ${worker.pid}, snapshot ${worker.applied} of ${snapshot.sequence}, tunnel port ` +
          `${worker.tunnelPort}, ${open} of ${worker.listeners.length} listeners open` +
          (worker.crashes === 0 ? '' : `, crashed ${times(worker.crashes)} before it`),
      ]
    }),
  ])
}

function alone({ outageBudget, trustDomain }: StatusReport): string {
  if (outageBudget === null) {
    return `could not go on: it has no ${trustDomain === '' ? 'certificate' : 'view of the mesh'}`
  }
  return outageBudget.ms === 0
    ? `cannot go on: the certificate of ${outageBudget.endsFirst} has ended`
    : `could go on for ${duration(outageBudget.ms)}, until the certificate of ${outageBudget.endsFirst} ends`
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`
}

function captured({ kind, reason, destinations, callers }: CaptureReport): string {
  if (kind !== 'on') return `${kind}: ${reason}`
  const known = callers
    .filter(({ user, unit }) => user !== null || unit !== null)
    .map(({ service }) => service)
  return `${destinations} addresses lead into the mesh; callers known here: ${known.join(', ') || 'none'}`
}

function words(contact: Contact, nowMs: number): string {
  switch (contact.kind) {
    case 'up':
      return 'connected'
    case 'down':
      return `away for ${duration(nowMs - contact.sinceMs)}: ${contact.reason}`
    case 'unknown':
      return 'not asked yet'
  }
}
