/** Owns a logger that says nothing, for tests that need one and do not read it. */

import { createLogger } from '#shared/logging/logger.ts'

export const silentLogger = createLogger({ name: 'test', level: 'silent' })
