/**
 * Owns `meshctl init`: the first host of a mesh, from an installed package to a host that serves,
 * with a controller of its own, and the line with which the next host joins.
 */

import { mkdirSync } from 'node:fs'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { formatHostPort } from '#shared/rpc/host-port.ts'
import {
  agentConfig,
  agentPorts,
  agentUnits,
  setUpAgent,
  type AgentSetupParts,
} from './agent-setup.ts'
import { exitCodes } from './exit-codes.ts'
import { setUpNames } from './names-setup.ts'
import type { Printer } from './output/printer.ts'
import { firstAddress, noAddress, preflight, writeMissing } from './preflight.ts'

/** What may be chosen. */
export interface InitSettings {
  readonly isRoot: boolean
  /** Null: the first address that is not loopback. */
  readonly advertise: string | null
  /** Null: the host name up to the first dot. */
  readonly host: string | null
  readonly trustDomain: string
}

/** Collaborators. */
export interface InitParts extends Omit<AgentSetupParts, 'note'> {
  readonly printer: Printer
  /** A client of this host's controller; rejects while there is none. */
  readonly controller: () => Promise<ControllerClient>
}

const directory = '/etc/mesh'
const apiPort = 15_010
const controllerUnit = 'mesh-controller.service'
const ports = [
  ...[apiPort, 15_379, 15_014].map((port) => ({ unit: controllerUnit, port })),
  ...agentPorts,
]

/** Sets up controller and agent; nothing is changed where something is in the way. */
export async function init(parts: InitParts, settings: InitSettings): Promise<number> {
  const { printer, units, clock } = parts
  const note = (line: string): void => printer.note(line)
  const advertise = settings.advertise ?? firstAddress()
  const host = settings.host ?? hostname().split('.')[0]?.toLowerCase() ?? ''
  const controller = formatHostPort(advertise ?? '', apiPort)
  const address = advertise !== null && isIP(advertise) !== 0 ? advertise : null
  const files = {
    [`${directory}/controller.json`]: `${JSON.stringify({ advertise, trustDomain: settings.trustDomain }, null, 2)}\n`,
    [`${directory}/agent.json`]: agentConfig(directory, {
      controller,
      host: settings.host,
      address,
    }),
  }
  const inTheWay = await preflight(parts, {
    isRoot: settings.isRoot,
    files,
    units: [controllerUnit, ...agentUnits()],
    ports,
  })
  const problems = advertise === null ? [...inTheWay, noAddress('--advertise')] : inTheWay
  if (problems.length > 0) {
    for (const problem of problems) note(problem)
    note('nothing was changed')
    return exitCodes.notInOrder
  }
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  const [[path, text] = ['', ''], [, config] = ['', '']] = Object.entries(files)
  await writeMissing({ [path]: text })
  note('starting mesh-controller: certificate authority, embedded store')
  units.enable([controllerUnit])
  const client = await reached(parts)
  try {
    const services = ['*']
    const { token } = await client.call('Operations', 'CreateToken', { host, services, ttlMs: 0 })
    const status = await setUpAgent({ ...parts, note }, { directory, token, config })
    await setUpNames({ units, note }, status.capture, { configPath: `${directory}/agent.json` })
    const facts = { host: status.host, trustDomain: status.trustDomain, controller }
    printer.result(facts, () => nextSteps(facts))
    return exitCodes.ok
  } finally {
    client.close()
  }

  async function reached({ controller: ask }: InitParts): Promise<ControllerClient> {
    const end = clock.elapsed() + 60_000
    for (;;) {
      try {
        const found = await ask()
        await found.call('Operations', 'ListHosts', {})
        return found
      } catch (error) {
        if (clock.elapsed() > end) {
          throw new MeshError(`the controller does not answer: ${messageOf(error)}`, {
            code: 'not-ready',
            hint: `journalctl -n 30 -u ${controllerUnit} tells why`,
            cause: error,
          })
        }
        await setTimeout(200)
      }
    }
  }
}

function nextSteps(facts: {
  readonly host: string
  readonly trustDomain: string
  readonly controller: string
}): string {
  return `mesh ${facts.trustDomain} is up; host ${facts.host} serves.

A service joins by a file:   echo '{ "port": 8080 }' > /etc/mesh.d/orders.json
The next host joins so:      meshctl token create HOST --service '*'        (here)
                             meshctl join ${facts.controller} --token-file -   (there; paste the token)
Anything wrong shows up in:  meshctl check`
}
