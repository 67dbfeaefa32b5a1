/** Owns what each kind of leaf is to say: its id, its DNS name, and the name etcd knows it by. Pure. */

import type { HostName, ServiceName, TrustDomain } from '#shared/model/names.ts'
import {
  controllerDnsName,
  controllerId,
  hostDnsName,
  hostId,
  operatorId,
  serviceId,
} from '#shared/model/spiffe-id.ts'
import type { LeafOrder } from './certificates.ts'
import { commonNameOf } from './certificates.ts'

type Rest = Pick<LeafOrder, 'publicKey' | 'ttlMs'>

/** A host's own. */
export function hostOrder(trustDomain: TrustDomain, host: HostName, rest: Rest): LeafOrder {
  return {
    ...rest,
    id: hostId(trustDomain, host),
    dnsName: hostDnsName(trustDomain, host),
    commonName: commonNameOf('host', host),
  }
}

/** A service's, which names the host it is for. */
export function serviceOrder(
  trustDomain: TrustDomain,
  service: ServiceName,
  host: HostName,
  rest: Rest,
): LeafOrder {
  return {
    ...rest,
    id: serviceId(trustDomain, service),
    dnsName: hostDnsName(trustDomain, host),
  }
}

/** A controller's. */
export function controllerOrder(trustDomain: TrustDomain, name: HostName, rest: Rest): LeafOrder {
  return {
    ...rest,
    id: controllerId(trustDomain, name),
    dnsName: controllerDnsName(trustDomain, name),
    commonName: commonNameOf('controller', name),
  }
}

/** An operator's. */
export function operatorOrder(trustDomain: TrustDomain, name: HostName, rest: Rest): LeafOrder {
  return {
    ...rest,
    id: operatorId(trustDomain, name),
    dnsName: `${name}.operator.${trustDomain}`,
    commonName: commonNameOf('operator', name),
  }
}
