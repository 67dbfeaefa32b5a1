/**
 * The whole command line of `meshctl`, as a tree of verbs. Home of commander: what a verb does is in
 * the verb's own file, which knows nothing of command lines.
 */

import { Command, CommanderError, Option } from 'commander'
import { exitCodes } from '#cli/exit-codes.ts'
import { clean } from '#cli/output/table.ts'
import { addAuthzVerbs } from './authz-verbs.ts'
import { addCaVerbs } from './ca-verbs.ts'
import { addCaptureVerbs } from './capture-verbs.ts'
import { Context, type Surroundings } from './context.ts'
import { addHealthVerbs } from './health-verbs.ts'
import { addHostVerbs } from './host-verbs.ts'
import { addLookVerbs } from './look-verbs.ts'
import { addManifestVerbs } from './manifest-verbs.ts'
import { addRotationVerbs } from './rotation-verbs.ts'
import { addSetupVerbs } from './setup-verbs.ts'
import { addStoreVerbs } from './store-verbs.ts'
import { addUnitVerbs } from './unit-verbs.ts'

/** The tree of verbs, in the order of `meshctl --help`. */
export function makeProgram(surroundings: Surroundings): Command {
  const program = new Command('meshctl')
    .description('look at and steer a service mesh of one agent per host')
    .addOption(
      new Option('--socket <path>', 'admin socket of the agent')
        .env('MESH_AGENT_SOCKET')
        .default('/run/mesh/agent/agent.sock'),
    )
    .addOption(
      new Option('--credential <file>', 'credential of an operator')
        .env('MESH_OPERATOR')
        .default('/var/lib/mesh/controller/operator.json'),
    )
    .addOption(
      new Option(
        '--controller <host:port>',
        'controller, instead of the one in the credential',
      ).env('MESH_CONTROLLER'),
    )
    .option('--json', 'print one JSON value', false)
    .version(`meshctl ${surroundings.version}`, '-V, --version', 'print the version')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(faultOf(text)) })
    .configureHelp({ showGlobalOptions: true })
  const context = new Context({ program, surroundings })
  addLookVerbs(program, context)
  addManifestVerbs(program, context)
  addRotationVerbs(program, context)
  addCaptureVerbs(program, context)
  addHealthVerbs(program, context)
  addAuthzVerbs(program, context)
  addUnitVerbs(program, context)
  addSetupVerbs(program, context)
  addHostVerbs(program, context)
  addCaVerbs(program, context)
  addStoreVerbs(program, context)
  return program
}

/** A fault of the command line, said as all others are, with where to read on. */
function faultOf(text: string): string {
  const fault = text
    .replace(/^error: /, '')
    .trimEnd()
    .replaceAll('\n', ' ')
  return `meshctl: ${clean(fault)}\n         --help behind a verb tells how it is written\n`
}

/**
 * Runs what a command line says.
 *
 * @throws whatever the verb throws; a wrong command line is told and ends with its exit code.
 */
export async function runProgram(
  argv: readonly string[],
  surroundings: Surroundings,
): Promise<void> {
  try {
    await makeProgram(surroundings).parseAsync(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    surroundings.exit(error.exitCode === 0 ? exitCodes.ok : exitCodes.usage)
  }
}
