# TensorFlow Serving with the model inside. Build at the root of the source tree:
#   docker build -f serving/deploy/model-server.Dockerfile -t coverslip-model-server .
FROM tensorflow/serving:2.20.0
COPY models/coverslip /models/coverslip
COPY serving/deploy/models.config serving/deploy/batching_parameters.txt serving/deploy/monitoring.config /etc/coverslip/
EXPOSE 8500 8501
# Answers as contiguous bytes parse several times faster than lists of numbers. The operator decides on batching:
# --enable_batching --batching_parameters_file=/etc/coverslip/batching_parameters.txt
ENTRYPOINT ["tensorflow_model_server", "--port=8500", "--rest_api_port=8501", "--model_config_file=/etc/coverslip/models.config", \
    "--model_config_file_poll_wait_seconds=60", "--monitoring_config_file=/etc/coverslip/monitoring.config", \
    "--enable_grpc_healthcheck_service=true", "--enable_serialization_as_tensor_content=true"]
