/**
 * Owns a reload of the config while the agent runs: the file is read whole first, and one that is
 * wrong changes nothing. What can change at once does; of the rest it says what it takes.
 */

import type { CommandAnswer } from './admin/admin-commands.ts'
import type { AgentConfig } from './config.ts'
import { configChanges, momentWords } from './config-changes.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ReloadReport } from '#shared/model/admin.ts'
import type { ConfigReading } from '#shared/schema/config.ts'
import { renderProblem } from '#shared/schema/problem.ts'

/** What a reload leans on. */
export interface ReloadCommandParts {
  readonly logger: Logger
  /** Reads the config as at the start. */
  readonly read: () => ConfigReading<AgentConfig>
  /** Takes over what counts at once, and hands the rest to workers to come. */
  readonly apply: (config: AgentConfig) => void
  /** Tells the service manager; answers how to tell it that it is over. */
  readonly begin: () => () => void
}

/** The command. `started` is what this process began with. */
export function reloadCommand(
  parts: ReloadCommandParts,
  settings: { readonly started: AgentConfig },
): () => CommandAnswer {
  const { logger, read, apply, begin } = parts
  let applied = settings.started
  return () => {
    const end = begin()
    try {
      const reading = read()
      if (!reading.ok) {
        const problem = reading.problems.map(renderProblem).join('; ')
        logger.error({ problem }, 'config not reloaded: nothing has changed')
        const hint = 'nothing has changed; mend the file and reload again'
        return { kind: 'refused', code: 'config', problem, hint }
      }
      const { config } = reading
      const report: ReloadReport = {
        applied: configChanges(applied, config)
          .filter(({ moment }) => moment === 'now')
          .map(({ key }) => key),
        // Also what was changed by an earlier reload, and waits still.
        waiting: configChanges(settings.started, config)
          .filter(({ moment }) => moment !== 'now')
          .map(({ key, moment }) => ({ key, needs: momentWords[moment] })),
      }
      apply(config)
      applied = config
      logger.info(report, 'config reloaded')
      return { kind: 'done', value: report }
    } finally {
      end()
    }
  }
}
