/**
 * Owns which keys of the agent's config count when: at once on a reload, once the control process
 * starts again, or for the next generation of workers. Pure. Every key stands here.
 */

import { isDeepStrictEqual } from 'node:util'
import type { AgentConfig } from './config.ts'

/** What it takes for a key to count. */
export type ConfigMoment = 'now' | 'restart' | 'upgrade' | 'stop'

/** A key that differs, as in the file. */
export interface ConfigChange {
  readonly key: string
  readonly moment: ConfigMoment
}

/** What it takes, in words; empty for what counts at once. */
export const momentWords: Readonly<Record<ConfigMoment, string>> = {
  now: '',
  restart: 'systemctl restart mesh-agent; it cuts nothing',
  upgrade: 'meshctl upgrade, which starts new workers; it cuts nothing',
  stop: 'stop the agent and its workers, then start them: rules and workers must change together',
}

/** Every key of the file with its part of the config. */
export const configKeys: readonly (readonly [
  key: string,
  moment: ConfigMoment,
  of: (config: AgentConfig) => unknown,
])[] = [
  ['log', 'now', ({ log }) => log],
  ['accessLog', 'now', ({ accessLog }) => accessLog],
  ['users', 'now', ({ users }) => users],
  ['retireMs', 'now', ({ retireMs }) => retireMs],
  ['host', 'restart', ({ host }) => host],
  ['zone', 'restart', ({ zone }) => zone],
  ['address', 'restart', ({ address }) => address],
  ['controller', 'restart', ({ controllers }) => controllers],
  ['joinTokenFile', 'restart', ({ joinTokenFile }) => joinTokenFile],
  ['paths.manifests', 'restart', ({ paths }) => paths.manifests],
  ['paths.policies', 'restart', ({ paths }) => paths.policies],
  ['paths.state', 'stop', ({ paths }) => paths.state],
  ['paths.run', 'stop', ({ paths }) => paths.run],
  ['listen.metrics', 'restart', ({ listen }) => listen.metrics],
  ['listen.dns', 'restart', ({ listen }) => listen.dns],
  ['wholeMesh', 'restart', ({ wholeMesh }) => wholeMesh],
  ['systemDns', 'restart', ({ systemDns }) => systemDns],
  ['capture', 'restart', ({ capture }) => capture.wish],
  ['egress', 'restart', ({ capture }) => capture.egress],
  ['captureExclude', 'restart', ({ capture }) => capture.exclude],
  ['capturePorts', 'stop', ({ capture }) => capture.firstPort],
  ['listen.tunnel', 'upgrade', ({ listen }) => listen.tunnel],
  ['listen.applications', 'upgrade', ({ listen }) => listen.applications],
  ['listen.forwardProxy', 'upgrade', ({ listen }) => listen.forwardProxy],
  ['listen.explicit', 'upgrade', ({ listen }) => listen.explicit],
  ['inboundSource', 'upgrade', ({ inboundSource }) => inboundSource],
  ['maxConnections', 'upgrade', ({ maxConnections }) => maxConnections],
  ['workers', 'upgrade', ({ workers }) => workers],
  ['drainMs', 'upgrade', ({ drainMs }) => drainMs],
  ['limits', 'upgrade', ({ limits }) => limits],
]

/** The keys in which two configs differ. */
export function configChanges(before: AgentConfig, after: AgentConfig): readonly ConfigChange[] {
  return configKeys.flatMap(([key, moment, of]) =>
    isDeepStrictEqual(of(before), of(after)) ? [] : { key, moment },
  )
}
