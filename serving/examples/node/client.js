// Inspects, embeds and extracts through a gateway: node client.js URL RECIPIENT COVER STEGO SEALED
// URL: http://host:port on loopback. With certificates: https://host:port, and their paths in CA, CERTIFICATE and KEY.
import { readFile, writeFile } from "node:fs/promises";
import { argv, env, exit } from "node:process";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { CoverslipService, Profile } from "./generated/coverslip/v1/coverslip_pb.js";

async function certificates() {
  if (!env.CA) return {};
  const [ca, cert, key] = await Promise.all([env.CA, env.CERTIFICATE, env.KEY].map((file) => readFile(file)));
  return { ca, cert, key };
}

async function main([baseUrl, recipient, cover, stego, sealed]) {
  const transport = createGrpcTransport({ baseUrl, nodeOptions: await certificates(), defaultTimeoutMs: 60_000 });
  const coverslip = createClient(CoverslipService, transport);
  const instance = await readFile(cover);

  const inspection = await coverslip.inspect({ instance });
  const fitting = inspection.profiles.filter((profile) => profile.fits).map((profile) => profile.profile);

  const embedded = await coverslip.embed({ instance, options: { recipient, profile: Profile.DEFAULT } });
  await writeFile(stego, embedded.instance);

  // The record is still sealed: the holder of the recipient's key opens it, here or elsewhere.
  const extracted = await coverslip.extract({ instance: embedded.instance, options: { recipient } });
  await writeFile(sealed, extracted.sealed);

  console.log(JSON.stringify({ rows: inspection.rows, fitting, recorded: embedded.report.recorded, sealedBytes: extracted.sealed.length }));
}

main(argv.slice(2)).catch((error) => {
  const failed = ConnectError.from(error);
  console.error(`${Code[failed.code]}: ${failed.rawMessage} (request ${failed.metadata.get("x-request-id") ?? "unknown"})`);
  exit(1);
});
