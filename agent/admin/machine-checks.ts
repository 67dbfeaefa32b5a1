/** Owns the checks of the machine under the agent: what runs out slowly, and then all at once. Pure. */

import type { MachineReport } from '#shared/model/admin.ts'
import { bad, ok, skipped, type Check, type Judgement } from './judgement.ts'

const mib = 1_048_576
const littleDisk = 200 * mib
const littleMemory = 64 * mib
const fewPorts = 8192
/** Of what the kernel may track. */
const nearlyFull = 0.9
/** Descriptors of a worker beside those of callers' connections: tunnels, files, the event loop. */
const ownFiles = 512

/** In the order they are shown. */
export const machineChecks: readonly Check[] = [
  { name: 'open-files', judge: ({ machine }) => openFiles(machine) },
  {
    name: 'state-disk',
    judge: ({ machine: { stateFreeBytes: free, stateDirectory } }) =>
      enough(free, littleDisk, {
        is: `${inMib(free)} free for ${stateDirectory}`,
        cause: 'without room certificates and the last view cannot be kept for the next start',
        fix: 'make room on its file system (df), or move it: paths.state',
      }),
  },
  {
    name: 'memory-free',
    judge: ({ machine: { memoryFreeBytes: free } }) =>
      enough(free, littleMemory, {
        is: `${inMib(free)} of memory available`,
        cause: 'when there is none left the kernel ends a process, perhaps a worker',
        fix: 'find what takes it (ps --sort=-rss aux), or give the machine more',
      }),
  },
  { name: 'tracked-connections', judge: ({ machine }) => tracked(machine) },
  {
    name: 'local-ports',
    judge: ({ machine: { localPorts } }) =>
      enough(localPorts, fewPorts, {
        is: `outgoing connections may use ${localPorts} ports`,
        cause:
          'there can be no more connections than that to one address and port, closed ones included',
        fix: 'sysctl -w net.ipv4.ip_local_port_range="32768 60999"',
      }),
  },
]

function enough(
  value: number | null,
  least: number,
  words: { readonly is: string; readonly cause: string; readonly fix: string },
): Judgement {
  if (value === null) return skipped('the kernel does not tell')
  return value >= least ? ok(words.is) : bad('warning', words.is, words.cause, words.fix)
}

function inMib(bytes: number | null): string {
  return `${Math.floor((bytes ?? 0) / mib)} MiB`
}

/** Each connection of a caller takes another one to the service, or a part of a tunnel. */
function openFiles({ openFiles: most, callersWanted }: MachineReport): Judgement {
  const needed = callersWanted * 2 + ownFiles
  return enough(most, needed, {
    is: `a worker may open ${most} files, for at most ${callersWanted} connections of callers`,
    cause: `maxConnections lets in more than it can carry: ${needed} files would be needed`,
    fix: `LimitNOFILE=${needed} in the unit of mesh-proxy (or ulimit -n), or a lower maxConnections`,
  })
}

function tracked({
  connectionsTracked: now,
  connectionsTrackedMost: most,
}: MachineReport): Judgement {
  if (now === null || most === null) return skipped('the kernel tracks no connections')
  const finding = `${now} of ${most} connections tracked`
  return now < most * nearlyFull
    ? ok(finding)
    : bad(
        'failed',
        finding,
        'when the table is full the kernel drops packets of new connections, captured ones too',
        `sysctl -w net.netfilter.nf_conntrack_max=${most * 2}`,
      )
}
