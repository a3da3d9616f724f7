// The requests that take more than one answer: uploads and streams.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "shim/control_server.h"
#include "shim/host.h"
#include "shim/log_file.h"
#include "shim/release_check.h"
#include "shim/store.h"
#include "shim/supervisor.h"

namespace cctl::shim {

// Each begins at once and keeps going from the loop; all references must outlive it.
std::shared_ptr<Request> beginPush(Host& host, std::unique_ptr<Incoming> incoming,
                                   const protocol::PushRequest& request,
                                   const Responder& responder);
std::shared_ptr<Request> beginVerify(Host& host, std::vector<Supervisor::Running> running,
                                     const protocol::VerifyRequest& request,
                                     const Responder& responder);
std::shared_ptr<Request> beginLogs(Host& host, std::shared_ptr<LogFile> log,
                                   const protocol::LogsRequest& request,
                                   const Responder& responder);
std::shared_ptr<Request> beginEvents(Host& host, const protocol::EventsRequest& request,
                                     const Responder& responder);

}  // namespace cctl::shim
