/** Declares the verbs about the files that put services into the mesh. */

import type { Command } from 'commander'
import { manifestApply } from '#cli/manifest-apply.ts'
import { manifestStatus, manifestValidate } from '#cli/manifest.ts'
import type { Context } from './context.ts'
import { timeoutOption, verb } from './options.ts'

interface ApplyOptions {
  readonly wait: boolean
  readonly timeout: number
  readonly directory?: string
}

/** See the header. */
export function addManifestVerbs(program: Command, context: Context): void {
  const manifest = verb(program, 'manifest', 'the files that put services into the mesh')
  verb(manifest, 'status', 'what became of the files dropped on this host').action(() =>
    context.done(manifestStatus(context.local())),
  )
  verb(manifest, 'validate <files...>', 'read files as the agent would, each by itself')
    .addHelpText(
      'after',
      '\nTo whom a file belongs, whether its address is one of the host, and what other files claim\nalready is judged where it is dropped: manifest apply --wait.',
    )
    .action((files: string[]) =>
      context.done(manifestValidate({ printer: context.printer() }, { files })),
    )
  verb(manifest, 'apply <file>', 'put a file into the manifest directory, whole or not at all')
    .option('--wait', 'until the agent has made all of it that it asks for', false)
    .addOption(timeoutOption('how long to wait at most: 30s, 5m', 30_000))
    .option('--directory <path>', 'manifest directory, instead of the one the agent names')
    .action((file: string, { wait, timeout, directory }: ApplyOptions) => {
      const { user, isRoot } = context.surroundings
      const settings = { file, user, isRoot, waitMs: wait ? timeout : 0 }
      return context.done(
        manifestApply(context.local(), {
          ...settings,
          ...(directory === undefined ? {} : { directory }),
        }),
      )
    })
}
