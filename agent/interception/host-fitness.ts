/** Owns the question whether this host can capture connections at all, and if not, why. */

import { readFileSync } from 'node:fs'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { virtualRange4 } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import { mayChangeNetwork } from './network-right.ts'
import { masqueradeProbe, unitProbe } from './ruleset.ts'

/** The oldest nft whose language we write. */
const oldest = [1, 0, 2] as const

/** What stands in the way; null: nothing. Never rejects. */
export async function hostProblem(commands: KernelCommands): Promise<MeshError | null> {
  try {
    await refuseUnfit(commands)
    return null
  } catch (error) {
    if (error instanceof MeshError) return error
    throw error
  }
}

async function refuseUnfit(commands: KernelCommands): Promise<void> {
  if (!mayChangeNetwork()) {
    throw new MeshError('this process may not change the network: it lacks CAP_NET_ADMIN', {
      code: 'capture-not-permitted',
      hint: 'run the agent as root or with CAP_NET_ADMIN, or set "capture": "off"',
    })
  }
  const said = await commands.ask('--version')
  const version = /v([0-9]+)\.([0-9]+)\.([0-9]+)/.exec(said)?.slice(1).map(Number) ?? [0, 0, 0]
  const [major = 0, minor = 0, patch = 0] = version
  const isOld =
    major < oldest[0] || (major === oldest[0] && minor === oldest[1] && patch < oldest[2])
  if (isOld) {
    throw new MeshError(`nft is too old: ${said.trim()}`, {
      code: 'nft-too-old',
      hint: `install nftables ${oldest.join('.')} or newer, or set "capture": "off"`,
    })
  }
  const routes = `${await commands.ip('-4', 'route', 'show', 'table', 'all')}\n${await commands.ip('-4', '-o', 'address', 'show')}`
  const taken = routes
    .split('\n')
    .find(
      (line) => /(?:^| )240\.240\./.test(line) && !line.startsWith(`local ${virtualRange4} dev lo`),
    )
  if (taken !== undefined) {
    throw new MeshError(`${virtualRange4} is in use on this host: ${taken.trim()}`, {
      code: 'virtual-range-taken',
      hint: 'virtual IPs of services need that range: remove the route or address, or set "capture": "off"',
    })
  }
}

/** What some kernels cannot do; capture does without. */
export interface KernelFeatures {
  /** It tells connections of units apart (`socket cgroupv2`). */
  readonly tellsUnits: boolean
  /** It can give connections that leave the host its own address (`masquerade`). */
  readonly masquerades: boolean
}

/** How nft says that the kernel lacks an expression, or that it has no word for it itself. */
const cannot = /: No such file or directory|not supported|syntax error|unknown datatype/

/**
 * What the kernel can do; it is asked once, at the start. Never rejects. Who could not be asked can: the
 * rules themselves are tried next, again and again, and fail with a reason.
 */
export async function kernelFeatures(
  commands: Pick<KernelCommands, 'check'>,
): Promise<KernelFeatures> {
  const takes = (probe: string): Promise<boolean> =>
    commands.check(probe).then(
      () => true,
      (error: unknown) => !cannot.test(messageOf(error)),
    )
  return { tellsUnits: await takes(unitProbe), masquerades: await takes(masqueradeProbe) }
}

/** Whether this host speaks IPv6; it is asked once, at the start. */
export function hasIpv6(): boolean {
  try {
    return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'latin1').trim() === '0'
  } catch {
    return false
  }
}
