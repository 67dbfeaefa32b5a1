/** Types of `debian.mjs`, which is plain JavaScript because set-up runs it on any Node. */

/** Whether this process may install Debian packages. */
export function canInstall(): boolean

/** Which of `packages` are not installed. */
export function missingPackages(packages: readonly string[]): string[]

/** Installs what is missing of `packages`; answers what is wrong, or an empty string. */
export function installPackages(packages: readonly string[], say: (line: string) => void): string
