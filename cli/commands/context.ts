/**
 * What every verb's declaration works with: the options that all verbs share, and the parts made of
 * them. Verbs get these parts; they never see a command line.
 */

import type { Command } from 'commander'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import { Printer, type Streams } from '#cli/output/printer.ts'
import { systemClock, type Clock } from '#shared/lifecycle/clock.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'

/** What the process gives its command line. */
export interface Surroundings {
  readonly streams: Streams
  /** Of this program, as in `0.1.0`. */
  readonly version: string
  /** Directory of the documents, as people find it. */
  readonly documents: string
  /** Name of the user who calls. */
  readonly user: string
  readonly isRoot: boolean
  /** Ends a process group at once. */
  readonly killGroup: (pid: number) => void
  /** Has `run` called before SIGINT or SIGTERM ends this process; what it answers takes that back. */
  readonly beforeSignal: (run: () => void) => () => void
  /** Takes the exit code of the verb that ran. */
  readonly exit: (code: number) => void
}

interface CommonOptions {
  readonly socket: string
  readonly credential: string
  readonly controller?: string
  readonly json: boolean
}

/** As the machine's, but whoever waits by it keeps this process alive. */
const waitingClock: Clock = {
  ...systemClock,
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return { stop: () => clearTimeout(timer) }
  },
}

/** See the header. */
export class Context {
  readonly surroundings: Surroundings
  readonly clock = systemClock
  readonly waitingClock = waitingClock
  readonly #program: Command

  constructor(parts: { readonly program: Command; readonly surroundings: Surroundings }) {
    this.#program = parts.program
    this.surroundings = parts.surroundings
  }

  /** The file of the operator's credential. */
  get credential(): string {
    return this.#common().credential
  }

  printer(): Printer {
    return new Printer({ streams: this.surroundings.streams }, { json: this.#common().json })
  }

  /** Parts of a verb that asks the agent of this host. */
  local(): { readonly agent: AdminSocket; readonly printer: Printer; readonly clock: Clock } {
    return {
      agent: new AdminSocket({ socketPath: this.#common().socket }),
      printer: this.printer(),
      clock: systemClock,
    }
  }

  /** A client of the controller, with the operator's credential; rejects where there is none. */
  openController(): Promise<ControllerClient> {
    const { credential, controller } = this.#common()
    return openOperatorClient(
      { clock: systemClock },
      { file: credential, ...(controller === undefined ? {} : { controller }) },
    )
  }

  /** Runs a verb that asks the controller; its exit code is the command's. */
  async withController(
    run: (parts: {
      readonly controller: ControllerClient
      readonly printer: Printer
    }) => Promise<number>,
  ): Promise<void> {
    const controller = await this.openController()
    try {
      await this.done(run({ controller, printer: this.printer() }))
    } finally {
      controller.close()
    }
  }

  /** Takes a verb's exit code. */
  async done(code: number | Promise<number>): Promise<void> {
    this.surroundings.exit(await code)
  }

  /** The options, also where they stand behind the verb. */
  #common(): CommonOptions {
    return this.#program.opts<CommonOptions>()
  }
}
