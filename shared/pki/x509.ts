/**
 * Owns the import of `@peculiar/x509`, which throws unless `reflect-metadata` was loaded before it.
 * The library makes certificates and CSRs; it never decides whether one is to be trusted.
 */

// oxlint-disable-next-line import/no-unassigned-import -- it patches the global Reflect
import 'reflect-metadata'

export * as x509 from '@peculiar/x509'
