/** Declares the verbs about the store behind the mesh. */

import type { Command } from 'commander'
import { openStoreAsOperator } from '#cli/client/store.ts'
import { exitCodes } from '#cli/exit-codes.ts'
import { storeCertificate } from '#cli/store-certificate.ts'
import {
  storeBackup,
  storeInit,
  storeMigrate,
  storeStatus,
  storeUndoMigration,
} from '#cli/store.ts'
import type { Context } from './context.ts'
import { urls, verb } from './options.ts'

interface MigrateOptions {
  readonly to?: readonly string[]
  readonly replace: boolean
  readonly undo: boolean
}

/** See the header. */
export function addStoreVerbs(program: Command, context: Context): void {
  const store = verb(program, 'store', 'the store behind the mesh')
  verb(store, 'status', 'where it is and how it fares').action(() =>
    context.withController(storeStatus),
  )
  verb(store, 'backup <file>', 'write all of it into a new file').action((file: string) =>
    context.withController(async ({ controller, printer }) => {
      const { credential } = context
      const opened = await openStoreAsOperator({ controller }, { credential })
      try {
        return await storeBackup({ store: opened, printer }, { file })
      } finally {
        opened.close()
      }
    }),
  )
  verb(store, 'certificate <node> <addresses...>', 'keys and certificates for one node of an etcd')
    .requiredOption('--out <directory>', 'where the files go')
    .action((node: string, addresses: string[], { out: directory }: { readonly out: string }) =>
      context.withController((parts) => storeCertificate(parts, { node, addresses, directory })),
    )
  verb(store, 'init', 'hold everybody to their own keys in an etcd; may be repeated')
    .requiredOption('--to <urls>', 'https://host:port, with commas between', urls)
    .action(({ to: endpoints }: { readonly to: readonly string[] }) =>
      context.withController((parts) => storeInit(parts, { endpoints })),
    )
  verb(store, 'migrate', 'move the embedded store into an etcd')
    .option('--to <urls>', 'https://host:port, with commas between', urls)
    .option('--replace', 'delete what an earlier try has left there', false)
    .option('--undo', 'take the embedded store into use again', false)
    .action(({ to: endpoints, replace, undo }: MigrateOptions) => {
      if (undo) return context.withController(storeUndoMigration)
      if (endpoints !== undefined) {
        return context.withController((parts) => storeMigrate(parts, { endpoints, replace }))
      }
      context.printer().note('say where to with --to, or --undo')
      return context.done(exitCodes.usage)
    })
}
