/** Owns the manual pages, made from the command line and the settings there are (man(7)). Pure. */

import { agentVariables } from '#agent/config-reader.ts'
import { agentConfigSchema } from '#agent/config-schema.ts'
import { exitCodes as agentCodes } from '#agent/exit-codes.ts'
import { controllerConfigSchema, controllerVariables } from '#controller/config.ts'
import { exitCodes as controllerCodes } from '#controller/exit-codes.ts'
import { variablesOf } from '#shared/schema/config.ts'
import { settingLeaves } from '#shared/schema/setting-leaves.ts'
import type { TObject } from '#shared/schema/type.ts'
import { everyVerb, type Verb, type VerbOption } from './verb-tree.ts'

/** Pages by file name, as text; all are of one version. */
export function manual(root: Verb, version: string): Readonly<Record<string, string>> {
  return {
    'meshctl.1': meshctl(root, version),
    'mesh-agent.8': program({
      name: 'mesh-agent',
      version,
      summary: 'the agent of a host in a service mesh',
      text: [
        'mesh-agent.service is the control process: it reads the manifests in /etc/mesh.d, checks the health of services, publishes them, and hands what it knows of the mesh to the workers, mesh-proxy@.service, which carry the traffic. It may be stopped and started at any time; traffic goes on.',
        'It is set up by meshctl init on the first host of a mesh and by meshctl join on the others. meshctl check tells what is wrong.',
      ],
      config: '/etc/mesh/agent.json',
      settings: agentConfigSchema,
      variables: agentVariables,
      codes: [
        [agentCodes.ok, 'stopped as asked'],
        [agentCodes.failed, 'something passing; it is started again'],
        [agentCodes.usage, 'the command line makes no sense'],
        [agentCodes.unavailable, 'a port or socket is taken'],
        [agentCodes.refused, 'the controller refused this host'],
        [agentCodes.config, 'the configuration is wrong, or the state is of a newer version'],
      ],
    }),
    'mesh-controller.8': program({
      name: 'mesh-controller',
      version,
      summary: 'the controller of a service mesh',
      text: [
        'mesh-controller.service holds the certificate authority of the mesh, admits hosts, issues the certificates of hosts and services, and serves the embedded store unless an etcd is used. It may be away for hours: traffic goes on.',
        'It is set up by meshctl init. Its state directory holds the keys of the mesh: back it up, and let nobody read it.',
      ],
      config: '/etc/mesh/controller.json',
      settings: controllerConfigSchema,
      variables: controllerVariables,
      codes: [
        [controllerCodes.ok, 'stopped as asked'],
        [controllerCodes.failed, 'something passing; it is started again'],
        [controllerCodes.usage, 'the command line makes no sense'],
        [controllerCodes.unavailable, 'a port or the state directory is taken'],
        [controllerCodes.config, 'the configuration or the state is wrong, or of a newer version'],
      ],
    }),
  }
}

function meshctl(root: Verb, version: string): string {
  const verbs = everyVerb(root).filter(({ verbs: below }) => below.length === 0)
  return page('meshctl', 1, version, [
    section('NAME', `meshctl \\- ${plain(root.description)}`),
    section('SYNOPSIS', `.B meshctl\n[${bold('options')}] ${bold('verb')} [${bold('words')}]`),
    section(
      'DESCRIPTION',
      plain(
        'Verbs about a host ask its agent on a socket; verbs about the mesh ask the controller with the credential of an operator.',
      ),
    ),
    section('VERBS', verbs.map(verbParagraph).join('\n')),
    section('OPTIONS', root.options.map(optionParagraph).join('\n')),
    section(
      'EXIT STATUS',
      tagged([
        ['0', 'everything asked for is in order'],
        ['1', 'it was answered, and something is not in order'],
        ['2', 'the command line makes no sense'],
        ['3', 'the agent or the controller could not be asked, or refused'],
      ]),
    ),
    section('SEE ALSO', `${bold('mesh-agent')}(8), ${bold('mesh-controller')}(8)\n${documents}`),
  ])
}

function program(facts: {
  readonly name: string
  readonly version: string
  readonly summary: string
  readonly text: readonly string[]
  readonly config: string
  readonly settings: TObject
  readonly variables: string
  readonly codes: readonly (readonly [code: number, meaning: string])[]
}): string {
  const { name, version, summary, text, config } = facts
  const variables = variablesOf(facts.settings, facts.variables)
  const settings = settingLeaves(facts.settings).map(({ key, preset, description }) => {
    const notes = [
      ...(preset === '' ? [] : [`default: ${preset}`]),
      ...(variables.has(key) ? [`variable: ${variables.get(key)}`] : []),
    ]
    return [key, `${description}${notes.length === 0 ? '' : ` (${notes.join('; ')})`}`] as const
  })
  return page(name, 8, version, [
    section('NAME', `${name} \\- ${plain(summary)}`),
    section('SYNOPSIS', bold(`${name}.service`)),
    section('DESCRIPTION', text.map(plain).join('\n.PP\n')),
    section(
      'CONFIGURATION',
      `${plain(`${config} is a JSON object; everything has a default or is found out.`)}\n${tagged(settings)}`,
    ),
    section(
      'EXIT STATUS',
      tagged(facts.codes.map(([code, what]) => [String(code), what] as const)),
    ),
    section('SEE ALSO', `${bold('meshctl')}(1)\n${documents}`),
  ])
}

const documents = '.PP\nThe documents in /usr/share/doc/hostmesh, operations.md first.'

function page(name: string, part: number, version: string, sections: readonly string[]): string {
  return `.TH ${name.toUpperCase()} ${part} "" "Hostmesh ${version}"\n${sections.join('\n')}\n`
}

function section(title: string, body: string): string {
  return `.SH ${title}\n${body}`
}

function verbParagraph({ usage, description, options }: Verb): string {
  const own = options.map(optionParagraph).join('\n')
  const below = own === '' ? '' : `\n.RS\n${own}\n.RE`
  return `.TP\n${bold(usage)}\n${plain(description)}${below}`
}

function optionParagraph({ usage, description, variable, preset }: VerbOption): string {
  const notes = [
    ...(preset === '' ? [] : [`default: ${preset}`]),
    ...(variable === '' ? [] : [`variable: ${variable}`]),
  ]
  const more = notes.length === 0 ? '' : ` (${notes.join('; ')})`
  return `.TP\n${bold(usage)}\n${plain(`${description}${more}`)}`
}

function tagged(pairs: readonly (readonly [tag: string, text: string])[]): string {
  return pairs.map(([tag, text]) => `.TP\n${bold(tag)}\n${plain(text)}`).join('\n')
}

function bold(text: string): string {
  return `\\fB${plain(text)}\\fR`
}

/** Text as roff takes it: no escapes, no requests at the start of a line. */
function plain(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', '\\(cq')
    .replace(/^([.'])/, '\\&$1')
}
