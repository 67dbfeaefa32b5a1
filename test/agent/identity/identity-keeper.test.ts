/** Holds the identity keeper to its word against a whole controller over real TLS. */

import { readdirSync, statSync } from 'node:fs'
import t from 'tap'
import { GrpcControllerPort } from '#agent/identity/controller-port.ts'
import { IdentityFiles } from '#agent/identity/identity-files.ts'
import { IdentityKeeper } from '#agent/identity/identity-keeper.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseServiceName } from '#shared/model/names.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { startController } from '#test/support/controller.ts'

const host = must(parseHostName('h1'))
const service = (name: string): ServiceName => must(parseServiceName(name))
const logger = createLogger({ name: 'test', level: 'silent' })

interface KeeperSettings {
  readonly address: string
  readonly state: string
  readonly token?: string | null
  readonly host?: typeof host
}

function makeKeeper(settings: KeeperSettings): IdentityKeeper {
  const name = settings.host ?? host
  return new IdentityKeeper(
    {
      controller: new GrpcControllerPort({ clock: systemClock }, { address: settings.address }),
      files: new IdentityFiles({ stateDirectory: settings.state, host: name }),
      joinToken: async () => settings.token ?? null,
      clock: systemClock,
      random: systemRandom,
      logger,
    },
    { host: name },
  )
}

/** Waits until `holds` after a change. */
function until(keeper: IdentityKeeper, holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!holds()) return
      stop()
      resolve()
    }
    const stop = keeper.onChange(look)
    look()
  })
}

t.test(
  'a host enrols with a token, gets services, and starts again without a controller',
  async (t) => {
    const directory = t.testdir()
    const controller = await startController(directory)
    t.teardown(() => controller.stop())
    const state = `${directory}/agent`
    const settings = { address: controller.address, state }

    const keeper = makeKeeper({ ...settings, token: await controller.token() })
    keeper.want(new Set([service('orders'), service('carts')]))
    await keeper.start()
    await until(keeper, () => keeper.credentials.length === 3)
    t.same(
      keeper.credentials.map(({ id }) => id),
      [
        'spiffe://mesh.internal/host/h1',
        'spiffe://mesh.internal/service/orders',
        'spiffe://mesh.internal/service/carts',
      ],
    )
    t.equal(keeper.mesh?.controller, 'c1')
    t.same(keeper.mesh?.store, {
      kind: 'embedded',
      endpoints: [`https://127.0.0.1:${controller.ports.store}`],
      serverName: 'c1.controller.mesh.internal',
    })
    await keeper.stop()
    for (const name of readdirSync(`${state}/identity`)) {
      t.equal(statSync(`${state}/identity/${name}`).mode & 0o777, 0o600, name)
    }

    await controller.stop()
    const again = makeKeeper(settings)
    again.want(new Set([service('orders')]))
    await again.start()
    t.teardown(() => again.stop())
    t.equal(again.credentials.length, 2)
    t.equal(again.credentials[0]?.serial, keeper.credentials[0]?.serial)
    await until(again, () => again.problems.length > 0)
    t.equal(again.problems[0]?.code, 'controller-unavailable')
  },
)
