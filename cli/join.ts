/** Owns `meshctl join`: this host into a mesh that is there, with the token made for it. */

import { readFileSync } from 'node:fs'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import { formatHostPort, parseHostPort, type HostPort } from '#shared/rpc/host-port.ts'
import {
  agentConfig,
  agentPorts,
  agentUnits,
  setUpAgent,
  type AgentSetupParts,
} from './agent-setup.ts'
import { controllerProblem } from './client/controller-probe.ts'
import { exitCodes } from './exit-codes.ts'
import { setUpNames } from './names-setup.ts'
import type { Printer } from './output/printer.ts'
import { firstAddress, noAddress, preflight } from './preflight.ts'

/** What must be said. */
export interface JoinSettings {
  readonly isRoot: boolean
  /** `host:port`, or a host alone. */
  readonly controller: string
  /** `-` for standard input. */
  readonly tokenFile: string
  /** Null: the host name up to the first dot. */
  readonly host: string | null
  /** IP address others reach this host at; null: its first one. */
  readonly address: string | null
}

const directory = '/etc/mesh'

/** Sets up the agent; nothing is changed where something is in the way. */
export async function join(
  parts: Omit<AgentSetupParts, 'note'> & { readonly printer: Printer },
  settings: JoinSettings,
): Promise<number> {
  const { printer } = parts
  const note = (line: string): void => printer.note(line)
  const target = settings.controller.replace(/^([^:]+)$/, '$1:15010')
  const address = parseHostPort(target)
  const token = readToken(settings.tokenFile)
  const controller = address.ok ? formatHostPort(address.value.host, address.value.port) : ''
  const { host } = settings
  const config = agentConfig(directory, { controller, host, address: settings.address })
  const hasAddress = settings.address !== null || firstAddress() !== null
  const problems = [
    ...(address.ok ? [] : [`the controller’s address ${address.problem}`]),
    ...(token.text === '' ? [token.problem] : []),
    ...(hasAddress ? [] : [noAddress('--address')]),
    ...(address.ok ? await reachable(parts, address.value) : []),
    ...(await preflight(parts, {
      isRoot: settings.isRoot,
      files: { [`${directory}/agent.json`]: config },
      units: agentUnits(),
      ports: agentPorts,
    })),
  ]
  if (problems.length > 0) {
    for (const problem of problems) note(problem)
    note('nothing was changed')
    return exitCodes.notInOrder
  }
  const status = await setUpAgent({ ...parts, note }, { directory, token: token.text, config })
  const { units } = parts
  await setUpNames({ units, note }, status.capture, { configPath: `${directory}/agent.json` })
  const facts = { host: status.host, trustDomain: status.trustDomain, controller }
  printer.result(facts, () => `host ${facts.host} serves in mesh ${facts.trustDomain}`)
  return exitCodes.ok
}

async function reachable(
  { clock }: Pick<AgentSetupParts, 'clock'>,
  { host, port }: HostPort,
): Promise<readonly string[]> {
  const problem = await controllerProblem({ host, port, nowMs: clock.now() })
  return problem === '' ? [] : [problem]
}

function readToken(file: string): { readonly text: string; readonly problem: string } {
  try {
    const text = readFileSync(file === '-' ? 0 : file, 'utf8').trim()
    return {
      text,
      problem: text === '' ? 'the token is empty: make one with meshctl token create' : '',
    }
  } catch (error) {
    return { text: '', problem: `cannot read the token: ${messageOf(error)}` }
  }
}
